// What the page says of its own freshness, and a log that stays at its end.
"use strict";
(() => {
  const live = document.getElementById("live");
  const region = document.getElementById("region");
  const printed = document.getElementById("printed");
  const maxPieces = 2000; // of a log that are kept
  let since = new Date();

  const say = (cls, text) => {
    if (!live) return;
    live.hidden = false;
    live.className = cls;
    document.getElementById("main").classList.toggle("old", cls === "stale");
    if (live.textContent !== text) live.textContent = text;
  };
  const stale = (why) => say("stale", why + " This is how it was at " + since.toLocaleTimeString() + ".");
  const fresh = () => { since = new Date(); say("fresh", "Live"); };

  if (region) {
    say("", "Connecting");
    region.addEventListener("htmx:sse:after:connection", (e) => { if (e.detail.connection.status === 200) fresh(); });
    region.addEventListener("htmx:sse:after:message", (e) => { if (e.detail.message.event !== "trouble") fresh(); });
    region.addEventListener("trouble", (e) => stale("The pool cannot be read: " + e.detail.data + "."));
    region.addEventListener("htmx:sse:error", (e) => stale(e.detail.status === 401 ? "Your session has ended: load the page again to log in." : "The console cannot be reached."));
    region.addEventListener("htmx:sse:close", () => stale("The console cannot be reached."));
  }
  if (printed) {
    const atEnd = () => printed.scrollHeight - printed.scrollTop - printed.clientHeight < 40;
    let follow = true;
    printed.scrollTop = printed.scrollHeight;
    printed.addEventListener("scroll", () => { follow = atEnd(); });
    printed.addEventListener("htmx:sse:after:message", () => {
      while (printed.childElementCount > maxPieces) printed.firstElementChild.remove();
      if (follow) printed.scrollTop = printed.scrollHeight;
    });
  }
})();
