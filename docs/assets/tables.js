// Tables that are wider than the screen scroll; this lets the keyboard reach them.
const reach = () => document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((part) => (part.tabIndex = 0));
window.document$ ? document$.subscribe(() => setTimeout(reach)) : addEventListener("DOMContentLoaded", reach);
