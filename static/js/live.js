// Keeps open pages equal to what a reload would show. The server sends only {topic: number}
// hints; a region that shows less than that number fetches its fragment and morphs it in.
//
// Region: <div data-topic="p/7/board" data-v="12" data-src="/projects/x/board/">…</div>
// Log:    <div data-log="p/7/run/91/log" data-after="120" data-src="/…/log/">…</div>
(() => {
  "use strict";
  const HEARTBEAT_LIMIT = 25000; // Two missed heartbeats of 10 s, and some.
  const POLL_AFTER = 60000, POLL_EVERY = 15000, BANNER_AFTER = 2000, HIDDEN_LIMIT = 30000;
  const MOST_LINES = 1000;
  const all = (selector) => [...document.querySelectorAll(selector)];
  const number = (text) => Number.parseInt(text, 10) || 0;

  // --- Regions -----------------------------------------------------------------------------

  const wanted = new Map(); // topic -> highest version heard of
  const busy = new WeakMap(); // region -> {dirty} while a GET is in flight
  const fetchedAt = new WeakMap(), loadedAt = Date.now();

  function heard(versions) {
    for (const [topic, v] of Object.entries(versions)) {
      wanted.set(topic, Math.max(v, wanted.get(topic) || 0));
    }
    refresh();
  }

  function refresh() {
    for (const region of all("[data-topic][data-src]")) {
      if ((wanted.get(region.dataset.topic) || 0) > number(region.dataset.v)) fetchRegion(region);
    }
  }

  const isLogin = (url) => url.includes("/accounts/login");

  async function get(url) {
    return fetch(url, {
      headers: { "HX-Request": "true", "Tutti-Live": "1" },
      credentials: "same-origin",
    });
  }

  async function fetchRegion(region) {
    if (busy.has(region)) { busy.get(region).dirty = true; return; }
    const state = { dirty: false }, began = Date.now();
    busy.set(region, state);
    try {
      const answer = await get(region.dataset.src);
      if (answer.redirected && isLogin(answer.url)) return signedOut();
      if (answer.status === 403 || answer.status === 404) return noAccess();
      if (answer.ok) {
        const html = await answer.text();
        const v = number(answer.headers.get("X-Version"));
        // A late answer must not put back what a newer one showed.
        if (region.isConnected && v >= number(region.dataset.v)) {
          morph(region, html);
          region.dataset.v = v;
          seen();
        }
      }
    } catch { /* The network is away: the reconnect asks again. */ } finally {
      // What takes long is asked for half of the time at most, however fast a plan moves on.
      const rest = state.dirty ? Math.min(Date.now() - began, 5000) : 0;
      setTimeout(() => { busy.delete(region); refresh(); }, rest);
    }
  }

  function morph(region, html) {
    Idiomorph.morph(region, html, {
      morphStyle: "innerHTML",
      // It also keeps what is inside: right for what is being typed, not for a button's words.
      ignoreActiveValue: document.activeElement?.matches("input, select, textarea"),
      restoreFocus: true,
      callbacks: {
        beforeNodeMorphed: (node) => !(node.nodeType === 1 && node.hasAttribute("data-morph-skip")),
        beforeAttributeUpdated: (name, node) =>
          !(name === "open" && /^(DETAILS|DIALOG)$/.test(node.tagName)) &&
          !(name === "class" && node.classList.contains("htmx-request")),
      },
    });
    htmx.process(region);
    start();
  }

  // --- Run logs: rows are appended, never replaced ------------------------------------------

  async function fetchLog(log) {
    if (busy.has(log)) { busy.get(log).dirty = true; return; }
    const state = { dirty: false };
    busy.set(log, state);
    try {
      const url = new URL(log.dataset.src, location.href);
      url.searchParams.set("after", log.dataset.after || "0");
      const answer = await get(url);
      if (answer.ok) {
        append(log, await answer.text());
        const after = answer.headers.get("X-After");
        if (after !== null && number(after) > number(log.dataset.after)) {
          log.dataset.after = after;
          if (answer.headers.get("X-More") === "1") state.dirty = true;
        }
        if (answer.headers.get("X-Log-End") === "1") log.dataset.ended = "1";
      }
    } catch { /* As above. */ } finally {
      busy.delete(log);
      if (state.dirty) setTimeout(() => fetchLog(log), 100);
    }
  }

  function append(log, html) {
    if (!html.trim()) return;
    const piece = document.createRange().createContextualFragment(html);
    const known = new Set([...log.children].map((row) => row.id).filter(Boolean));
    for (const row of [...piece.children]) {
      if (row.id && known.has(row.id)) row.remove();
    }
    log.append(piece);
    while (log.children.length > MOST_LINES) log.firstElementChild.remove();
    if (follows(log)) log.scrollTop = log.scrollHeight;
  }

  const toggle = (log) => document.querySelector(`[data-follow="${log.id}"]`);
  const follows = (log) => toggle(log)?.checked ?? true;

  function watchLog(log) {
    if (log.dataset.watched) return;
    log.dataset.watched = "1";
    const box = toggle(log);
    log.addEventListener("scroll", () => {
      const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
      if (box) box.checked = atEnd;
    });
    box?.addEventListener("change", () => { if (box.checked) log.scrollTop = log.scrollHeight; });
    log.scrollTop = log.scrollHeight;
    if (!log.dataset.ended) fetchLog(log);
  }

  const openLogs = () => all("[data-log][data-src]").filter((log) => !log.dataset.ended);

  // --- Socket --------------------------------------------------------------------------------

  let socket = null, tries = 0, timer = null, lostAt = 0, stopped = false;
  let lastFrame = Date.now(), shownAt = new Date();

  function topics() {
    const have = {};
    for (const region of all("[data-topic][data-src]")) {
      const v = number(region.dataset.v), t = region.dataset.topic;
      have[t] = t in have ? Math.min(have[t], v) : v;
    }
    if (!document.hidden || Date.now() - hiddenAt < HIDDEN_LIMIT) {
      for (const log of openLogs()) have[log.dataset.log] = number(log.dataset.after);
    }
    return have;
  }

  let subscribed = "";
  function subscribe(force) {
    const sub = topics(), names = Object.keys(sub).sort().join(" ");
    if (socket?.readyState !== WebSocket.OPEN || (!force && names === subscribed)) return;
    subscribed = names;
    socket.send(JSON.stringify({ sub }));
  }

  function connect() {
    clearTimeout(timer);
    if (stopped || (socket && socket.readyState <= WebSocket.OPEN)) return;
    const path = document.body.dataset.live;
    if (!path || !Object.keys(topics()).length) return;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(`${scheme}//${location.host}${path}`);
    socket = mine;
    mine.onopen = () => { lastFrame = Date.now(); subscribed = ""; subscribe(true); };
    mine.onmessage = (message) => {
      if (mine !== socket) return;
      let data;
      try { data = JSON.parse(message.data); } catch { return; }
      lastFrame = Date.now();
      online();
      seen();
      heard(data.v || {});
      for (const log of openLogs()) {
        const v = (data.v || {})[log.dataset.log];
        if (data.beat || v > number(log.dataset.after)) fetchLog(log);
      }
    };
    mine.onclose = (event) => {
      if (mine !== socket) return;
      socket = null;
      if (event.code === 4401) return signedOut();
      if (event.code === 4403) return noAccess();
      if (event.code === 4413) return tooMuch();
      offline();
    };
  }

  function offline() {
    if (!lostAt) {
      lostAt = Date.now();
      setTimeout(banner, BANNER_AFTER);
    }
    const ceiling = Math.min(30000, 500 * 2 ** Math.min(tries++, 6));
    clearTimeout(timer);
    // Full jitter from 0.5 s on, so that a restart of the server is not followed by a rush.
    timer = setTimeout(connect, 500 + Math.random() * (ceiling - 500));
  }

  function online() { lostAt = 0; tries = 0; say(""); }
  function seen() { if (!lostAt) shownAt = new Date(); }

  function banner() {
    if (!lostAt || stopped) return;
    say(`Reconnecting… shown state is from ${shownAt.toTimeString().slice(0, 8)}.`);
  }

  function say(text) {
    const box = document.getElementById("live-banner");
    if (!box || (box.textContent === text && box.hidden === !text)) return;
    box.textContent = text;
    box.hidden = !text;
  }

  function end(text, url, label) {
    stopped = true;
    clearTimeout(timer);
    socket?.close();
    say(text);
    const link = document.createElement("a");
    link.href = url;
    link.textContent = label;
    document.getElementById("live-banner")?.append(" ", link);
  }
  const signedOut = () => end("You are signed out; this page no longer changes.",
    `/accounts/login/?next=${encodeURIComponent(location.pathname + location.search)}`, "Sign in");
  const noAccess = () => end("You no longer have access to this; the page no longer changes.", "/", "Your projects");
  const tooMuch = () => end("This page shows too much to follow its changes.", location.href, "Reload");

  setInterval(() => {
    if (stopped) return;
    if (socket?.readyState === WebSocket.OPEN && Date.now() - lastFrame > HEARTBEAT_LIMIT) {
      const dead = socket; // Half open: nothing comes, and no close event either.
      socket = null;
      dead.close();
      offline();
    }
  }, 5000);

  setInterval(() => {
    if (stopped || !lostAt || Date.now() - lostAt < POLL_AFTER) return;
    all("[data-topic][data-src]").forEach(fetchRegion);
    openLogs().forEach(fetchLog);
  }, POLL_EVERY);

  // What moves without an event (readings, use) is fetched again every data-every seconds.
  setInterval(() => {
    if (stopped || lostAt || document.hidden) return;
    for (const region of all("[data-src][data-every]")) {
      const due = number(region.dataset.every) * 1000;
      if (Date.now() - (fetchedAt.get(region) || loadedAt) < due) continue;
      fetchedAt.set(region, Date.now());
      fetchRegion(region);
    }
  }, 1000);

  // --- Page life -----------------------------------------------------------------------------

  let hiddenAt = 0;
  document.addEventListener("visibilitychange", () => {
    hiddenAt = document.hidden ? Date.now() : 0;
    if (document.hidden) setTimeout(() => document.hidden && subscribe(false), HIDDEN_LIMIT + 1000);
    else { connect(); subscribe(true); openLogs().forEach(fetchLog); }
  });
  addEventListener("pagehide", () => {
    const old = socket;
    socket = null; // Its close event is then nobody's.
    clearTimeout(timer);
    old?.close();
  });
  addEventListener("pageshow", (event) => { if (event.persisted) { lostAt = 0; connect(); } });
  addEventListener("online", () => { tries = 0; connect(); });

  // --- Small things that need no file of their own ---------------------------------------------

  const title = document.title;
  function start() {
    const count = number(document.querySelector("[data-count]")?.dataset.count);
    document.title = count ? `(${count}) ${title}` : title;
    all("[data-log][data-src]").forEach(watchLog);
    subscribe(false);
  }

  function toast(text) {
    const box = document.getElementById("toast");
    if (!box) return;
    box.textContent = text;
    box.hidden = false;
    clearTimeout(toast.timer);
    toast.timer = setTimeout(() => { box.hidden = true; }, 8000);
  }
  const isPlain = (xhr) => (xhr.getResponseHeader("Content-Type") || "").startsWith("text/plain");
  // A refusal in plain words is no piece of a page: whatever asked, it is said as a toast.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const detail = event.detail;
    if (isLogin(detail.xhr.responseURL)) {
      event.preventDefault(); // The page to sign in is no piece of this one.
      signedOut();
      return;
    }
    if (detail.xhr.status < 400 || !isPlain(detail.xhr)) return;
    detail.shouldSwap = false;
    detail.isError = true;
  });
  document.addEventListener("htmx:responseError", (event) => {
    const xhr = event.detail.xhr, status = xhr.status;
    toast(isPlain(xhr) ? xhr.responseText
      : status === 403 ? "Your role in this project does not allow this."
      : status === 404 ? "This no longer exists. Reload the page."
      : `The server answered ${status}. Reload the page and try again.`);
  });
  document.addEventListener("htmx:sendError", () => toast("The server can't be reached. Nothing was changed; try again."));
  document.addEventListener("htmx:afterSettle", () => { start(); connect(); });
  // What was sent is shown in the page then; a refused text stays in its field.
  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt: form, successful, xhr } = event.detail;
    if (successful && xhr.status < 400 && form.matches?.("form[data-clear]")) form.reset();
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-autosubmit] select, [data-autosubmit] input")) event.target.form.requestSubmit();
  });

  start();
  connect();
})();
