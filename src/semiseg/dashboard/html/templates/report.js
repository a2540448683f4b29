"use strict";
// Tooltip at the pointer: every line's value at the nearest step. Without scripts, only this and zooming are missing.
const tip = document.getElementById("tip");

function nearest(steps, step) {
  let best = 0;
  for (let i = 1; i < steps.length; i++) {
    if (Math.abs(steps[i] - step) < Math.abs(steps[best] - step)) best = i;
  }
  return best;
}

for (const svg of document.querySelectorAll("svg[data-lines]")) {
  const lines = JSON.parse(svg.dataset.lines).filter((line) => line[2].length > 0);
  const [low, high, start, end] = JSON.parse(svg.dataset.scale);
  const percent = "percent" in svg.dataset;
  const cursor = svg.querySelector(".cursor");
  const steps = [...new Set(lines.flatMap((line) => line[2]))].sort((a, b) => a - b);
  if (steps.length === 0) continue;

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    const step = steps[nearest(steps, low + ((x - start) / (end - start)) * (high - low))];
    const at = start + ((step - low) / (high - low)) * (end - start);
    cursor.setAttribute("x1", at);
    cursor.setAttribute("x2", at);
    cursor.setAttribute("visibility", "visible");
    const title = document.createElement("div");
    title.textContent = `step ${step}`;
    tip.replaceChildren(title);
    for (const [label, color, own, values] of lines) {
      if (step < own[0] || step > own[own.length - 1]) continue;
      const value = values[nearest(own, step)];
      if (value === null) continue;
      const row = document.createElement("div");
      const dot = document.createElement("i");
      dot.style.background = color;
      row.append(dot, `${label}: ${percent ? (100 * value).toFixed(2) : value.toPrecision(4)}`);
      tip.append(row);
    }
    tip.hidden = false;
    const left = Math.min(event.clientX + 16, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${Math.min(event.clientY + 16, window.innerHeight - tip.offsetHeight - 8)}px`;
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  });
}

// Pictures that can be enlarged: click or Enter opens one, click or any key closes it.
const zoom = document.getElementById("zoom");

function enlarge(image) {
  zoom.querySelector("img").src = image.src;
  zoom.querySelector("p").textContent = image.alt;
  zoom.hidden = false;
}

for (const image of document.querySelectorAll("img.zoom")) {
  image.addEventListener("click", () => enlarge(image));
  image.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.stopPropagation();
      enlarge(image);
    }
  });
}
zoom.addEventListener("click", () => { zoom.hidden = true; });
document.addEventListener("keydown", () => { zoom.hidden = true; });
