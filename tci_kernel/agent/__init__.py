"""The half of the live transport that runs inside the session.

`transport/requests.py` ships these modules in the code of one request. They are loaded under the
name `_tci_agent`, with no name in the user's namespace and no file. What is said between them and
the relay is written down in `transport/frames.py`. From the inside out:

    outbox        the child's messages, numbered, until the relay has acknowledged them
    asked         one request to the child, and what is said of it in the child's place
    ledger        what the child was asked and has not finished
    namesakes     requests that have the id of one before them, kept apart
    inbox         what waits for the child, and the cells that a failure stops
    conversation  all of them, under one lock
    process       one child ipykernel: its process, its sockets
                  (in it run mend, speakers, streams and child, which starts it)
    pump          the one thread that owns the sockets, sends, and watches the child
    shell         the session's own IPython, kept free of requests
    foreign       what other clients of the session send, run in the child
    front         what the relay asks for, answered in the session's main thread
    entry         where the code of a request comes in

They run on Python 3.8 or newer with the standard library and what ipykernel brings.
"""
