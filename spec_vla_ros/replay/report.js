// Draws the figures of the page in the colours of its theme; times of all plots over time are zoomed together.
(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)").matches;
  const boxes = [...document.querySelectorAll("[data-plot]")];
  const config = {
    responsive: true, displaylogo: false, displayModeBar: touch || undefined,
    modeBarButtonsToRemove: ["select2d", "lasso2d"],
  };

  // Colours come as names of CSS variables.
  function themed(value, style) {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((item) => themed(item, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, themed(item, style)]));
  }

  function figureOf(box) {
    const found = figures[box.dataset.plot];
    return found.choices ? found.choices[box.dataset.choice] : found;
  }

  async function draw(box) {
    if (box.closest("details:not([open])")) return; // it has no width yet
    const figure = figureOf(box);
    const { data, layout } = themed(figure, getComputedStyle(document.documentElement));
    layout.height = figure.height;
    if (touch) layout.dragmode = false; // a finger scrolls the page; the bar of the plot zooms
    if (box.span && "time" in box.dataset) layout.xaxis.range = box.span;
    const fresh = !box.drawn;
    box.drawn = true;
    await Plotly.react(box, data, layout, config);
    if (!fresh) return;
    box.on("plotly_relayout", (change) => zoomed(box, change));
    box.on("plotly_click", (click) => show(click.points[0].customdata));
  }

  function zoomed(box, change) {
    if (!("time" in box.dataset)) return;
    const range = change["xaxis.range"] || [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    const span = change["xaxis.autorange"] ? null : range;
    if (span && span[0] === undefined) return;
    for (const other of boxes) {
      if (!("time" in other.dataset) || String(other.span) === String(span)) continue;
      other.span = span;
      if (other === box || !other.drawn) continue;
      Plotly.relayout(other, span ? { "xaxis.range": [...span] } : { "xaxis.autorange": true });
    }
  }

  function show(index) {
    if (index !== undefined && document.getElementById(`image-${index}`)) location.hash = `image-${index}`;
    reveal();
  }

  function reveal() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
    target.scrollIntoView({ block: "center" });
  }

  for (const fold of document.querySelectorAll("details"))
    fold.addEventListener("toggle", () => fold.querySelectorAll("[data-plot]").forEach((box) => box.drawn || draw(box)));
  for (const input of document.querySelectorAll("input[data-for]"))
    input.addEventListener("change", () => {
      const box = document.getElementById(input.dataset.for);
      box.dataset.choice = input.value;
      draw(box);
    });
  dark.addEventListener("change", () => boxes.forEach(draw));
  addEventListener("hashchange", reveal);
  boxes.forEach(draw);
  reveal();
})();
