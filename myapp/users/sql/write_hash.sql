-- write_hash: the hash of a user's password, by the primary key.
UPDATE users_user SET password = %(password)s WHERE id = %(id)s;
