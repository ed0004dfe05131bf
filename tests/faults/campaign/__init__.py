"""The campaign: faults brought about on purpose, and ledgers that tell what they cost.

An experiment starts a durable Postgres and real workers, defers jobs as any client would, does
harm, waits until the queue is empty, and holds what was accepted against what happened.
"""
