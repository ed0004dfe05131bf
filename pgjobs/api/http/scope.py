"""What we note in the scope of an ASGI request, where no client can write; loads nothing."""

# A question of ours, for a request that is held: it is no request of the client's.
ASKED_AGAIN = "jobs.live.asked_again"
