"""A tab was closed: what Gradio keeps of it is forgotten, and the memory goes back.

Left alone, Gradio 6 keeps of the last 10,000 sessions what was shown in them, pictures too, of 2,000 the messages that
nobody fetched, and for good the numbers of unfinished events and the names of all uploads.
"""

import anyio
import gradio as gr

from emoreason.apps.ui.sessions import Sessions
from emoreason.core.malloc import give_back_memory

OPEN = 64  # sessions whose state Gradio keeps; one that is asked again is made anew, and this page needs nothing of it
ENDING = 300.0  # seconds in which the events of a closed tab end, those that wait in the queue too


async def close(page: gr.Blocks, sessions: Sessions, key: str) -> None:
    await anyio.to_thread.run_sync(sessions.end, key)  # its answer stops
    queue = page._queue
    with anyio.move_on_after(ENDING):
        await anyio.sleep(1.0)  # the stream of its messages ends too, and looks for them once more
        # an event that still runs would bring the session back
        while any(event.session_hash == key for event in queue.event_ids_to_events.values()):
            await anyio.sleep(0.2)
    await anyio.to_thread.run_sync(sessions.end, key)  # an event that had to wait began it anew
    for kept in (page.state_holder.session_data, page.state_holder.time_last_used, queue.pending_messages_per_session,
                 queue.pending_event_ids_session, page.pending_diff_streams):  # fmt: skip
        kept.pop(key, None)
    for names in page.temp_file_sets:
        names.clear()  # of every upload so far; sessions.py deletes the files, and nobody else asks for them
    await anyio.to_thread.run_sync(give_back_memory)
