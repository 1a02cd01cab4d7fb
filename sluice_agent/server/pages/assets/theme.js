// Runs before the first paint, so that a page never shows the other theme for a moment.
"use strict";
try {
  const stored = localStorage.getItem("sluice.theme");
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
} catch {} // a browser may refuse its storage
