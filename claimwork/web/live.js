// Puts the parts of the page that the server sends in place of the old ones. The server has escaped all that is in them.
"use strict";
const FOCUSABLE = "a, summary, [tabindex]";
const SCROLLED = ".chart, .table, pre";
const connection = document.getElementById("connection");
const said = document.getElementById("said");

// What tells an element of the old part from the others in the new one.
function nameOf(each) {
  return each.tagName + (each.parentElement.dataset.key ?? each.getAttribute("href") ?? each.getAttribute("aria-label") ?? "");
}

function replace(section, html) {
  const opened = [...section.querySelectorAll("details[open]")].map((each) => each.dataset.key);
  const scrolled = [...section.querySelectorAll(SCROLLED)].map((each) => [each.scrollLeft, each.scrollTop]);
  const focused = section.contains(document.activeElement) ? nameOf(document.activeElement) : null;
  section.innerHTML = html;
  for (const each of section.querySelectorAll("details")) each.open = opened.includes(each.dataset.key);
  section.querySelectorAll(SCROLLED).forEach((each, at) => {
    if (at < scrolled.length) [each.scrollLeft, each.scrollTop] = scrolled[at];
  });
  if (focused) [...section.querySelectorAll(FOCUSABLE)].find((each) => nameOf(each) === focused)?.focus({ preventScroll: true });
}

const events = new EventSource("/events");
events.onopen = () => { connection.textContent = ""; };
events.onerror = () => { connection.textContent = "The dashboard does not answer; trying again. This is what it said last."; };
events.onmessage = (event) => {
  const news = JSON.parse(event.data);
  for (const [name, html] of Object.entries(news.sections)) {
    const section = document.getElementById(name);
    const selected = document.getSelection();
    if (selected.isCollapsed || !section.contains(selected.anchorNode)) replace(section, html);
  }
  document.title = document.title.replace(/^\w+/, news.verdict);
  if (said.textContent !== news.verdict) said.textContent = news.verdict; // a screen reader says it when it changes
};
