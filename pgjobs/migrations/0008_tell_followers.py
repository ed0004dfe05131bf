from django.db import migrations

# Clients that wait for a Task, or stream its events, are told of changes by their web process, which
# listens. The trigger that writes the events of a statement (0009) knows best whether a status changed,
# so it tells as well; reports of progress, which change no job, are told of by their own statement.
#
# A NOTIFY makes commits queue behind each other. So nobody is told where nobody listens: a web
# process holds a shared advisory lock while anybody follows a Task, and whoever would tell tries for
# the same lock alone. Two who try at once may take each other for a listener; that costs one
# notification for nothing.
#
# The number is FOLLOWERS_LOCK, the channel CHANNEL of pgjobs/follow/listening.py. The guard for a
# full queue of notifications is that of 0007.

TELL = """
CREATE OR REPLACE FUNCTION pgjobs_tell_followers() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    followers CONSTANT bigint := 1242259202;
BEGIN
    IF pg_try_advisory_lock(followers) THEN
        PERFORM pg_advisory_unlock(followers);
    ELSIF pg_notification_queue_usage() <= 0.9 THEN
        PERFORM pg_notify('jobs_task_changed', '');
    END IF;
END;
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("pgjobs", "0007_notify_once_a_statement")]

    operations = [
        migrations.RunSQL(sql=TELL, reverse_sql="DROP FUNCTION IF EXISTS pgjobs_tell_followers();")
    ]
