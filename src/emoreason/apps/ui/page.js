// The page's own script: movements light up their place on the face, chips choose a face, exports are saved.
(() => {
  let chosen = null; // {face, units, regions} of the movement that is lit

  const panel = () => document.querySelector(".er-panel[data-chosen]");
  const list = (text) => (text || "").split(" ").filter(Boolean);
  const share = (a, b) => a.some((item) => b.includes(item));
  const faceOf = (element) => element.dataset.face || panel()?.dataset.chosen;

  // Gradio drops data attributes from messages and keeps classes: what a movement is stands there.
  function restore() {
    for (const span of document.querySelectorAll("span.er-au:not([data-au])")) {
      const named = (start) => [...span.classList].filter((name) => name.startsWith(start)).map((name) => name.slice(start.length));
      span.dataset.au = named("er-unit-").join(" ");
      span.dataset.region = named("er-region-").join(" ");
      span.dataset.face = named("er-face-")[0];
      span.setAttribute("aria-pressed", "false");
    }
    // Gradio names a message by its source, pictures and all; what stands in it is name enough.
    for (const said of document.querySelectorAll("#er-chat [data-testid][aria-label]")) said.removeAttribute("aria-label");
    // The title of thoughts is a button; the nameless one in it is not reached a second time.
    for (const arrow of document.querySelectorAll(".thought-group .title button")) {
      arrow.tabIndex = -1;
      arrow.setAttribute("aria-hidden", "true");
    }
  }

  // Marks what stands on the page now. Gradio writes parts of it anew, so this runs after every change.
  function mark() {
    restore();
    // The head of a folded thought is a button already; the one that Gradio puts into it has no name.
    for (const inner of document.querySelectorAll("#er-chat .title[role=button] button")) inner.inert = true;
    for (const element of document.querySelectorAll("[data-au]")) {
      const on = chosen !== null && faceOf(element) === chosen.face && share(list(element.dataset.au), chosen.units);
      element.setAttribute("aria-pressed", String(on));
      element.classList.toggle("er-on", on);
    }
    const shown = panel();
    for (const region of shown?.querySelectorAll(".er-region") ?? []) {
      region.classList.toggle("er-on", shown.dataset.chosen === chosen?.face && chosen.regions.includes(region.dataset.region));
    }
  }

  function light(element) {
    const units = list(element.dataset.au);
    const face = faceOf(element);
    const again = chosen?.face === face && String(chosen.units) === String(units);
    chosen = again ? null : { face, units, regions: list(element.dataset.region) };
    if (chosen && panel()?.dataset.chosen !== face) choose(face);
    mark();
    if (chosen) document.querySelector(".er-views")?.scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  }

  const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

  function choose(face) {
    const shown = panel();
    if (!shown || shown.dataset.chosen === face) return;
    for (const chip of shown.querySelectorAll(".er-chip")) chip.setAttribute("aria-pressed", String(chip.dataset.face === face));
    shown.dispatchEvent(new CustomEvent("er-choose", { bubbles: true, detail: { face: Number(face) } }));
  }

  function clear() {
    chosen = null;
    mark();
  }

  document.addEventListener("click", (event) => {
    if (event.target.closest(".er-to-policy")) [...document.querySelectorAll("button[role=tab]")].at(-1)?.click(); // the Model tab
    const unit = event.target.closest("[data-au]");
    if (unit) return light(unit);
    const face = event.target.closest(".er-panel [data-face]");
    if (face && face.dataset.face !== panel()?.dataset.chosen) {
      chosen = null;
      choose(face.dataset.face);
      mark();
    }
  });

  document.addEventListener("keydown", (event) => {
    const unit = event.target.closest?.("span[data-au]");
    if (unit && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      light(unit);
    } else if (event.key === "Escape" && chosen) {
      clear();
    } else if (event.target.closest?.(".er-chip")) {
      step(event);
    }
  });

  // Arrow keys, Home and End go from chip to chip.
  function step(event) {
    const chips = [...document.querySelectorAll(".er-chip")];
    const here = chips.indexOf(event.target.closest(".er-chip"));
    const there = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: chips.length - 1 }[event.key];
    if (there === undefined) return;
    event.preventDefault();
    const next = chips[(there + chips.length) % chips.length];
    for (const chip of chips) chip.tabIndex = chip === next ? 0 : -1;
    next.focus();
  }

  // Saves bytes as a file of the user's; the server keeps none.
  function download(name, mime, base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: mime }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  document.addEventListener("er-shown", () => {
    mark();
    const chip = document.querySelector('.er-chip[aria-pressed="true"]');
    const row = chip?.parentElement; // the row is scrolled and not the page
    if (row) row.scrollLeft = chip.offsetLeft - row.offsetLeft - (row.clientWidth - chip.offsetWidth) / 2;
  });
  // A picture that was chosen, pasted or dropped is sent at once; while an answer is written it waits for its end.
  let sending = null;
  function send() {
    const box = document.querySelector("#er-box");
    const button = box?.querySelector("button.submit-button:not([disabled])");
    const there = box?.querySelector(".thumbnail-item img, .thumbnail-item .thumbnail-image");
    const uploading = box?.querySelector(".thumbnail-item .loader, .uploading");
    clearTimeout(sending);
    if (there && button && !uploading) sending = setTimeout(() => button.click(), 120);
  }

  // A picture may be dropped anywhere on the conversation.
  document.addEventListener("dragover", (event) => {
    if (event.target.closest?.("#er-chat")) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    const input = document.querySelector("#er-box input[type=file]");
    if (!input || !event.target.closest?.("#er-chat") || !event.dataTransfer?.files.length) return;
    event.preventDefault();
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  let waits = false;
  new MutationObserver(() => {
    if (waits) return;
    waits = true;
    requestAnimationFrame(() => ((waits = false), mark(), send()));
  }).observe(document.documentElement, { childList: true, subtree: true });
  window.emoreason = { download };
})();
