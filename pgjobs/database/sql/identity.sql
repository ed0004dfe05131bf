-- identity: the cluster and the database, which no other primary has.
SELECT control.system_identifier, database.oid
FROM pg_control_system() AS control, pg_database AS database
WHERE database.datname = current_database() AND NOT pg_is_in_recovery();
