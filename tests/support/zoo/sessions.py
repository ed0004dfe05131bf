"""What a function leaves behind in its session: settings, locks, temporary tables."""

from typing import Any

from django.db import connection
from psycopg.rows import dict_row

from zoo.sql import run_sql
from zoo.table import ANY_END, ATOMIC, PLAIN, SYNC_TO_ASYNC, nuisance

# What stays referred to here is not tidied by the garbage collector.
_kept: list[Any] = []


@nuisance(PLAIN, ATOMIC, SYNC_TO_ASYNC)
def set_search_path() -> None:
    run_sql("SET search_path TO pg_catalog, pg_temp")
    _return_to_public_in_a_transaction()


@nuisance(PLAIN)
def set_search_path_by_function() -> None:
    run_sql("SELECT set_config('search_path', 'pg_catalog', false)")


@nuisance(PLAIN)
def set_search_path_by_callproc() -> None:
    with connection.cursor() as cursor:
        cursor.callproc("set_config", ["search_path", "pg_catalog", False])


@nuisance(PLAIN, SYNC_TO_ASYNC)
def set_search_path_below_django() -> None:
    connection.ensure_connection()
    connection.connection.execute("SELECT set_config('search_path', 'pg_catalog', false)")


@nuisance(PLAIN)
def set_search_path_in_a_block() -> None:
    run_sql("DO $$ BEGIN PERFORM set_config('search_path', 'pg_catalog', false); END $$")


@nuisance(SYNC_TO_ASYNC, PLAIN)
def set_statement_timeout() -> None:
    run_sql("SET statement_timeout = '300ms'")


@nuisance(PLAIN)
def set_lock_timeout_after_a_comment() -> None:
    run_sql("/* quick */ SELECT 1; SET lock_timeout = '10ms'")


@nuisance(PLAIN)
def reset_all() -> None:
    run_sql("RESET ALL")


@nuisance(PLAIN)
def discard_all() -> None:
    run_sql("DISCARD ALL")


@nuisance(PLAIN)
def deallocate_all_in_a_block() -> None:
    run_sql("DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$")


@nuisance(PLAIN, SYNC_TO_ASYNC)
def allow_only_reads() -> None:
    run_sql("SET default_transaction_read_only = on")


@nuisance(PLAIN)
def set_isolation_of_the_session() -> None:
    run_sql("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")


@nuisance(PLAIN, SYNC_TO_ASYNC)
def set_role() -> None:
    run_sql("SET ROLE pg_read_all_data")


@nuisance(PLAIN)
def set_time_zone() -> None:
    run_sql("SET TIME ZONE 'Asia/Tokyo'")


@nuisance(PLAIN)
def switch_triggers_off() -> None:
    run_sql("SET session_replication_role = replica")


@nuisance(PLAIN)
def set_client_encoding() -> None:
    run_sql("SET client_encoding = 'LATIN1'")


@nuisance(SYNC_TO_ASYNC, PLAIN)
def hide_a_table_by_a_temporary_one() -> None:
    run_sql("CREATE TEMPORARY TABLE zoo_effect (job_id bigint, run integer)")


@nuisance(PLAIN, ATOMIC)
def create_a_temporary_table() -> None:
    run_sql("CREATE TEMPORARY TABLE zoo_temporary (x integer)")


@nuisance(PLAIN)
def create_a_temporary_table_from_a_query() -> None:
    run_sql("SELECT 1 AS x INTO TEMPORARY zoo_temporary")


@nuisance(PLAIN, SYNC_TO_ASYNC)
def take_an_advisory_lock() -> None:
    run_sql("SELECT pg_advisory_lock(1147)")


@nuisance(ATOMIC)
def take_an_advisory_lock_in_a_transaction() -> None:
    run_sql("SELECT pg_try_advisory_lock_shared(1148)")


@nuisance(SYNC_TO_ASYNC, PLAIN)
def listen() -> None:
    run_sql("LISTEN zoo")


@nuisance(PLAIN)
def prepare() -> None:
    run_sql("PREPARE zoo AS SELECT 1")


@nuisance(PLAIN)
def hold_a_cursor() -> None:
    run_sql("DECLARE zoo CURSOR WITH HOLD FOR SELECT generate_series(1, 3)")


@nuisance(PLAIN)
def change_the_rows_of_the_driver() -> None:
    connection.ensure_connection()
    connection.connection.row_factory = dict_row


@nuisance(PLAIN)
def wrap_statements_for_good() -> None:
    def refuse(_execute: Any, *_arguments: Any) -> Any:
        raise ValueError("a wrapper of a job that is over")

    connection.execute_wrappers.append(refuse)


@nuisance(PLAIN)
def mark_for_rollback() -> None:
    connection.needs_rollback = True


@nuisance(PLAIN, end=ANY_END)
def enter_a_pipeline() -> None:
    connection.ensure_connection()
    pipeline = connection.connection.pipeline()
    pipeline.__enter__()
    _kept.append(pipeline)


@nuisance(PLAIN, end=ANY_END)
def leave_a_copy_open() -> None:
    connection.ensure_connection()
    copy = connection.connection.cursor().copy("COPY zoo_unique FROM STDIN")
    copy.__enter__()
    _kept.append(copy)


@nuisance(PLAIN, end=ANY_END)
def leave_a_stream_open() -> None:
    connection.ensure_connection()
    rows = connection.connection.cursor().stream("SELECT generate_series(1, 100000)")
    next(rows)
    _kept.append(rows)


@nuisance(PLAIN, ATOMIC, SYNC_TO_ASYNC, end=ANY_END)
def close_below_django() -> None:
    connection.ensure_connection()
    connection.connection.close()


@nuisance(PLAIN, end=ANY_END)
def terminate_its_own_session() -> None:
    run_sql("SELECT pg_terminate_backend(pg_backend_pid())")


def _return_to_public_in_a_transaction() -> None:
    """The end of an atomic job is written by this session: it has to find the tables."""
    if connection.in_atomic_block:
        run_sql("SET LOCAL search_path TO public")
