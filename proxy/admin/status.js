// The server renders each section; what has changed is put in place of what is there, so that focus, scrolling and open
// explanations stay.
(() => {
  "use strict";
  const live = document.getElementById("live");
  const say = (text, state) => {
    live.textContent = text;
    live.className = "soft " + state;
  };

  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName;

  const become = (a, b) => {
    if (!same(a, b)) {
      a.replaceWith(document.importNode(b, true));
      return;
    }
    if (a.nodeType !== Node.ELEMENT_NODE) {
      if (a.data !== b.data) a.data = b.data;
      return;
    }
    const kept = (name) => a.nodeName === "DETAILS" && name === "open"; // the reader's choice
    for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && !kept(name)) a.removeAttribute(name);
    for (const { name, value } of b.attributes) if (a.getAttribute(name) !== value && !kept(name)) a.setAttribute(name, value);
    children(a, b);
  };

  const children = (a, b) => {
    const known = new Map([...a.children].filter((c) => c.id).map((c) => [c.id, c]));
    let at = a.firstChild;
    for (const next of [...b.childNodes]) {
      const mine = next.id && known.get(next.id);
      if (mine) {
        known.delete(next.id);
        if (mine === at) at = at.nextSibling;
        else a.insertBefore(mine, at);
        become(mine, next);
      } else if (at && !at.id && !next.id && same(at, next)) {
        const after = at.nextSibling;
        become(at, next);
        at = after;
      } else {
        a.insertBefore(document.importNode(next, true), at);
      }
    }
    while (at) {
      const after = at.nextSibling;
      at.remove();
      at = after;
    }
  };

  const source = new EventSource("/api/events");
  source.addEventListener("section", (event) => {
    const next = new DOMParser().parseFromString(event.data, "text/html").body.firstElementChild;
    const mine = next && document.getElementById(next.id);
    if (mine) become(mine, next);
    say("Live", "on");
  });
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) say("Not live: reload for the state now", "lost");
    else say("Connection lost; trying again", "lost");
  });
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
})();
