"""Background jobs for Django on Postgres alone: a library, which knows no project."""
