// The page's script: highlights movements on the face, selects faces, sends dropped pictures, saves downloads.
(() => {
  let chosen = null; // {face, units, regions} of the highlighted movement

  const panel = () => document.querySelector(".er-panel[data-chosen]");
  const list = (text) => (text || "").split(" ").filter(Boolean);
  const share = (a, b) => a.some((item) => b.includes(item));
  const faceOf = (element) => element.dataset.face || panel()?.dataset.chosen;

  // Gradio drops data attributes from messages but keeps classes. Copy the classes back into data attributes.
  function restore() {
    for (const span of document.querySelectorAll("span.er-au:not([data-au])")) {
      const values = (prefix) => [...span.classList].filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
      span.dataset.au = values("er-unit-").join(" ");
      span.dataset.region = values("er-region-").join(" ");
      span.dataset.face = values("er-face-")[0];
      span.setAttribute("aria-pressed", "false");
    }
    // Gradio labels a message with its HTML source, pictures included. Its content is label enough.
    for (const message of document.querySelectorAll("#er-chat [data-testid][aria-label]")) message.removeAttribute("aria-label");
    // The title of the thoughts is a button itself; hide the unnamed button inside it.
    for (const arrow of document.querySelectorAll(".thought-group .title button")) {
      arrow.tabIndex = -1;
      arrow.setAttribute("aria-hidden", "true");
    }
  }

  // Marks the highlighted movement. Gradio re-renders parts of the page, so this runs after every change.
  function mark() {
    restore();
    // The same button in a folded thought must not take the focus either.
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

  function highlight(element) {
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
    if (unit) return highlight(unit);
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
      highlight(unit);
    } else if (event.key === "Escape" && chosen) {
      clear();
    } else if (event.target.closest?.(".er-chip")) {
      step(event);
    }
  });

  // Arrow keys, Home and End move between chips.
  function step(event) {
    const chips = [...document.querySelectorAll(".er-chip")];
    const current = chips.indexOf(event.target.closest(".er-chip"));
    const target = { ArrowRight: current + 1, ArrowDown: current + 1, ArrowLeft: current - 1, ArrowUp: current - 1, Home: 0, End: chips.length - 1 }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    const next = chips[(target + chips.length) % chips.length];
    for (const chip of chips) chip.tabIndex = chip === next ? 0 : -1;
    next.focus();
  }

  // Downloads a file in the browser; the server stores nothing.
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
    const row = chip?.parentElement; // scrolls the row, not the page
    if (row) row.scrollLeft = chip.offsetLeft - row.offsetLeft - (row.clientWidth - chip.offsetWidth) / 2;
  });
  // Sends a chosen, pasted or dropped picture at once, or as soon as the current answer is finished.
  let sending = null;
  function send() {
    const box = document.querySelector("#er-box");
    const button = box?.querySelector("button.submit-button:not([disabled])");
    const picture = box?.querySelector(".thumbnail-item img, .thumbnail-item .thumbnail-image");
    const uploading = box?.querySelector(".thumbnail-item .loader, .uploading");
    clearTimeout(sending);
    if (picture && button && !uploading) sending = setTimeout(() => button.click(), 120);
  }

  // Pictures can be dropped anywhere on the conversation.
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

  let scheduled = false;
  new MutationObserver(() => {
    if (scheduled) return;
    scheduled = true;
    requestAnimationFrame(() => ((scheduled = false), mark(), send()));
  }).observe(document.documentElement, { childList: true, subtree: true });
  window.emoreason = { download };
})();
