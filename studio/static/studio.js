// Asks the three trying pages' questions and refreshes a running report. No text is kept: a reload forgets everything.
"use strict";

// On a phone the pages stand in one row: bring the present one into sight.
document.querySelector("header [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

const OWN = { "content-type": "application/json", "x-mindshift-studio": "1" };

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function say(status, text, failed) {
  status.textContent = text;
  status.classList.toggle("failed", Boolean(failed));
}

function post(path, values, signal) {
  return fetch(path, { method: "POST", headers: OWN, body: JSON.stringify(values), signal });
}

function percent(share) {
  return (100 * share).toFixed(1) + " %";
}

function meter(share, threshold) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const bar = (className, x, width) => {
    const rect = document.createElementNS(space, "rect");
    rect.setAttribute("class", className);
    rect.setAttribute("x", x);
    rect.setAttribute("width", width);
    rect.setAttribute("height", 8);
    svg.append(rect);
  };
  bar("track", 0, 100);
  bar("fill", 0, (100 * share).toFixed(2));
  if (threshold !== undefined) bar("mark", (100 * threshold - 0.4).toFixed(2), 0.8);
  return svg;
}

function head(row, ...names) {
  for (const name of names) {
    const cell = element("th", "", name);
    cell.scope = "col";
    row.append(cell);
  }
}

function showFills(place, filled) {
  const titles = { adapted: "Adapted", base: "Base" };
  for (const [name, fills] of Object.entries(filled)) {
    const table = element("table", "bars");
    table.append(element("caption", "", titles[name] || name));
    head(table.createTHead().insertRow(), "word", "probability", "");
    const body = table.createTBody();
    for (const fill of fills) {
      const row = body.insertRow();
      const word = element("th", "", fill.word);
      word.scope = "row";
      row.append(word);
      row.insertCell().textContent = percent(fill.probability);
      const bar = row.insertCell();
      bar.className = "bar";
      bar.append(meter(fill.probability));
    }
    place.append(table);
  }
}

function showLabels(place, found) {
  const table = element("table", "bars");
  table.append(element("caption", "", "Labels"));
  head(table.createTHead().insertRow(), "label", "probability", "threshold", "given", "");
  const body = table.createTBody();
  for (const label of [...found.labels].sort((a, b) => b.probability - a.probability)) {
    const row = body.insertRow();
    if (label.given) row.className = "given";
    const name = element("th", "", label.name.replaceAll("_", " "));
    name.scope = "row";
    row.append(name);
    row.insertCell().textContent = percent(label.probability);
    row.insertCell().textContent = percent(label.threshold);
    row.insertCell().textContent = label.given ? "yes" : "no";
    const bar = row.insertCell();
    bar.className = "bar";
    bar.append(meter(label.probability, label.threshold));
  }
  const words = element("p", "words");
  for (const piece of found.words) {
    if (piece.share === null || Math.abs(piece.share) < 0.08) {
      words.append(piece.text);
      continue;
    }
    const strength = Math.min(4, Math.ceil(Math.abs(piece.share) * 4));
    const mark = element("mark", (piece.share > 0 ? "for-" : "against-") + strength, piece.text);
    mark.title = (piece.share > 0 ? "speaks for " : "speaks against ") + found.explained.replaceAll("_", " ");
    words.append(mark);
  }
  const strongest = found.words.filter((piece) => piece.share > 0.08).sort((a, b) => b.share - a.share).slice(0, 5);
  const told = strongest.map((piece) => piece.text.trim()).filter(Boolean).join(", ");
  place.append(
    table,
    element("h2", "", "Words behind “" + found.explained.replaceAll("_", " ") + "”"),
    words,
    element("p", "quiet", told ? "Most for it, in order: " + told + "." : "No word stands out."),
  );
}

const SHOW = { "/api/fill-mask": showFills, "/api/classify": showLabels };

for (const form of document.querySelectorAll("form[data-ask]")) {
  const status = document.querySelector(".status");
  const place = document.querySelector(".answer");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    say(status, "Working. The first time, the model is loaded.");
    place.hidden = true;
    place.replaceChildren();
    try {
      const response = await post(form.dataset.ask, { text: form.elements.text.value });
      const values = await response.json();
      if (values.error) {
        say(status, values.error, true);
      } else {
        SHOW[form.dataset.ask](place, values);
        place.hidden = false;
        say(status, "Done.");
      }
    } catch {
      say(status, "The studio did not answer. Is it still running?", true);
    }
    button.disabled = false;
  });
}

class Refused extends Error {}

// Bytes of a conversation that are sent; the studio takes 400,000.
const LONGEST_TALK = 300000;

// A talk that is too long loses its oldest exchanges, but none up to one that was answered as an emergency: it stays one.
function shorten(turns) {
  const size = () => new TextEncoder().encode(JSON.stringify(turns)).length;
  const answered = (route) => turns.findIndex((turn) => turn.route === route);
  const oldest = Math.max(answered("crisis"), answered("abuse")) + 1;
  while (turns.length > oldest + 1 && size() > LONGEST_TALK) turns.splice(oldest, 2);
}

const chat = document.querySelector("#chat");
if (chat) {
  const talk = document.querySelector("#talk");
  const status = document.querySelector(".status");
  const message = chat.elements.message;
  let turns = [];
  let asking = new AbortController();

  const bubble = (role, text) => {
    const made = element("div", "turn " + role);
    made.append(element("span", "who", role === "user" ? "You" : "Program"), element("p", "", text));
    talk.append(made);
    made.scrollIntoView({ block: "nearest" });
    return made;
  };

  const read = async (response, made) => {
    const words = made.querySelector("p");
    let route = "ok";
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let waiting = "";
    for (;;) {
      const { value, done } = await reader.read();
      waiting += value || "";
      const lines = waiting.split("\n");
      waiting = lines.pop();
      for (const line of lines) {
        const piece = JSON.parse(line);
        if (piece.error) throw new Refused(piece.error);
        if (piece.kind === "words") words.textContent += words.textContent ? piece.text : piece.text.trimStart();
        else words.textContent = piece.text;
        if (piece.kind === "fixed") made.classList.add("fixed", piece.route);
        route = piece.route;
        made.scrollIntoView({ block: "nearest" });
      }
      if (done) return { role: "assistant", text: words.textContent, route };
    }
  };

  chat.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = message.value.trim();
    const button = chat.querySelector("button");
    if (!text || button.disabled) return;
    button.disabled = true;
    const said = turns; // "New conversation" may begin another while this one waits
    said.push({ role: "user", text });
    shorten(said);
    asking = new AbortController();
    bubble("user", text);
    message.value = "";
    say(status, "Reading.");
    const made = bubble("assistant", "");
    let answer;
    let problem = "";
    try {
      const response = await post("/api/chat", { turns: said }, asking.signal);
      if (!response.ok) throw new Refused((await response.json()).error);
      answer = await read(response, made);
    } catch (error) {
      if (said !== turns) return;
      // What was written stays: its later screening may need it, and so may whoever wrote it, now.
      const reason = error instanceof Refused && error.message ? error.message : "The studio did not answer. Is it still running?";
      answer = { role: "assistant", text: reason };
      made.querySelector("p").textContent = reason;
      document.querySelector("details.lines").open = true;
      problem = "No answer. If you need a person now, the numbers stand above.";
    }
    if (said !== turns) return;
    said.push(answer);
    say(status, problem, problem);
    button.disabled = false;
    message.focus();
  });

  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      chat.requestSubmit();
    }
  });

  document.querySelector("#fresh").addEventListener("click", () => {
    turns = [];
    asking.abort();
    talk.replaceChildren();
    chat.querySelector("button").disabled = false;
    say(status, "A new conversation.");
    message.focus();
  });
}

const report = document.querySelector("#report[data-live]");
if (report) {
  setInterval(async () => {
    try {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      const fresh = page.querySelector("#report");
      if (fresh && fresh.innerHTML !== report.innerHTML) report.innerHTML = fresh.innerHTML;
    } catch {
      // The next look may succeed; the page still shows the last figures.
    }
  }, 5000);
}
