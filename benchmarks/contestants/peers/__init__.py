"""Other libraries, each used as its own documentation says, on the same batches from the same DataLoader.

They are installed by ``make bench-peers`` into an environment of their own, and run under its interpreter. Each calls the gate from its own
hook for the start of an epoch, or at the head of the loop where the loop is the user's.
"""
