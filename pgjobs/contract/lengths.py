"""How many characters are kept: columns, checks at the door and cuts in the worker read it here."""

MAX_TASK_NAME_LENGTH = 128
MAX_QUEUE_COLUMN_LENGTH = 128  # a queue's name is checked by its bytes: see defer/options.py
MAX_RELATED_TABLE_LENGTH = 128
MAX_RELATED_ID_LENGTH = 128
MAX_CORRELATION_ID_LENGTH = 128
MAX_TAG_LENGTH = 64
MAX_PROGRESS_MESSAGE_LENGTH = 200
MAX_WORKER_NAME_LENGTH = 200
MAX_ERROR_CLASS_LENGTH = 200
