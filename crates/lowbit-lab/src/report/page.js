"use strict";
// Hover values at once, and on touch; without this script the browser shows the titles itself.
document.addEventListener("DOMContentLoaded", () => {
  const tip = document.getElementById("tip");
  for (const mark of document.querySelectorAll(".hit")) {
    const title = mark.querySelector("title");
    const text = title.textContent;
    mark.setAttribute("aria-label", text);
    title.remove();
    const show = (event) => {
      tip.textContent = text;
      tip.hidden = false;
      const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
      tip.style.left = `${Math.max(8, Math.min(event.pageX + 12, right))}px`;
      tip.style.top = `${event.pageY + 14}px`;
    };
    mark.addEventListener("pointerenter", show);
    mark.addEventListener("pointerdown", show);
    mark.addEventListener("pointerleave", () => { tip.hidden = true; });
  }
});
