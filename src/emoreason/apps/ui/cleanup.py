"""Frees the memory that Gradio keeps for a closed tab.

By default, Gradio 6 keeps the contents of the last 10,000 sessions, pictures included, the unfetched messages of 2,000
sessions, and forever the ids of unfinished events and the names of all uploads.
"""

import anyio
import gradio as gr

from emoreason.apps.ui.sessions import Sessions
from emoreason.core.malloc import give_back_memory

MAX_GRADIO_SESSIONS = 64  # sessions whose state Gradio keeps; the page does not use that state
END_TIMEOUT_S = 300.0  # seconds in which running and queued events of a closed tab should end


async def close(page: gr.Blocks, sessions: Sessions, key: str) -> None:
    await anyio.to_thread.run_sync(sessions.end, key)  # stops its answer
    queue = page._queue
    with anyio.move_on_after(END_TIMEOUT_S):
        await anyio.sleep(1.0)  # its message stream is ending too, and reads the tables once more
        # an event that is still running would recreate the session
        while any(event.session_hash == key for event in queue.event_ids_to_events.values()):
            await anyio.sleep(0.2)
    await anyio.to_thread.run_sync(sessions.end, key)  # a queued event may have recreated it
    for table in (page.state_holder.session_data, page.state_holder.time_last_used, queue.pending_messages_per_session,
                  queue.pending_event_ids_session, page.pending_diff_streams):  # fmt: skip
        table.pop(key, None)
    for names in page.temp_file_sets:
        names.clear()  # names of all uploads; sessions.py deletes the files itself
    await anyio.to_thread.run_sync(give_back_memory)
