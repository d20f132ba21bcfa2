"use strict";
(() => {
  const all = (query, root = document) => [...root.querySelectorAll(query)];
  const buttons = all("#runs button");
  const of = (run) => all(`[data-run="${run}"]`).filter((each) => !each.closest("#runs"));
  const shown = (button) => button.getAttribute("aria-pressed") !== "false";

  // a click hides or shows a run everywhere; a double click leaves it alone on the page, another brings all back
  const show = (button, yes) => {
    button.setAttribute("aria-pressed", yes);
    of(button.dataset.run).forEach((each) => each.classList.toggle("off", !yes));
  };
  const light = (run) => buttons.forEach((other) => {
    const dim = run !== null && other.dataset.run !== run;
    of(other.dataset.run).forEach((each) => each.closest("svg") && each.classList.toggle("dim", dim));
  });
  buttons.forEach((button) => {
    button.addEventListener("click", () => show(button, !shown(button)));
    button.addEventListener("dblclick", () => {
      const alone = buttons.every((other) => other === button || !shown(other));
      buttons.forEach((other) => show(other, alone || other === button));
    });
    button.addEventListener("mouseenter", () => light(button.dataset.run));
    button.addEventListener("mouseleave", () => light(null));
  });

  // what stands under the pointer: each visible line's value there
  const tip = document.getElementById("tip");
  const names = Object.fromEntries(buttons.map((button) => [button.dataset.run, button.textContent.trim()]));
  const number = (value) => value.toFixed(Math.abs(value) < 10 ? 3 : 1).replace("-", "−");
  const at = (line, x) => {
    const points = line.getAttribute("points").trim().split(/\s+/).map((pair) => pair.split(",").map(Number));
    if (!points.length || x < points[0][0] - 0.5 || x > points.at(-1)[0] + 0.5) return null;
    let last = 0;
    while (last < points.length - 1 && points[last + 1][0] <= x) last++;
    const [a, b] = [points[last], points[Math.min(last + 1, points.length - 1)]];
    return b[0] > a[0] ? a[1] + ((b[1] - a[1]) * (x - a[0])) / (b[0] - a[0]) : a[1];
  };
  all("svg[data-box]").forEach((plot) => {
    const [left, right, top, floor] = plot.dataset.box.split(",").map(Number);
    const [x0, x1] = plot.dataset.x.split(",").map(Number);
    const [y0, y1] = plot.dataset.y.split(",").map(Number);
    const [across, up] = plot.dataset.names.split("|");
    const cross = document.createElementNS(plot.namespaceURI, "line");
    cross.setAttribute("class", "cross");
    const leave = () => { tip.hidden = true; cross.remove(); };
    plot.addEventListener("mouseleave", leave);
    plot.addEventListener("mousemove", (event) => {
      const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
      if (place.x < left || place.x > right || place.y < top || place.y > floor) return leave();
      const found = all("polyline.line:not(.off)", plot).filter((line) => line.closest("svg[data-box]") === plot)
        .map((line) => [line.dataset.run, at(line, place.x)]).filter(([run, y]) => y !== null && run !== undefined)
        .sort((one, two) => one[1] - two[1]);
      if (!found.length) return leave();
      Object.entries({ x1: place.x, x2: place.x, y1: top, y2: floor }).forEach(([key, value]) => cross.setAttribute(key, value));
      plot.append(cross);
      const head = document.createElement("div");
      head.textContent = `${across} ${number(x0 + ((place.x - left) / (right - left)) * (x1 - x0))} · ${up}`;
      tip.replaceChildren(head, ...found.map(([run, y]) => {
        const row = document.createElement("div"), dot = document.createElement("i");
        dot.dataset.run = run;
        row.append(dot, `${number(y0 + ((floor - y) / (floor - top)) * (y1 - y0))}  ${names[run]}`);
        return row;
      }));
      tip.hidden = false;
      const over = event.clientX + 16 + tip.offsetWidth > innerWidth;
      tip.style.left = `${Math.max(4, over ? event.clientX - tip.offsetWidth - 14 : event.clientX + 16)}px`;
      tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 6))}px`;
    });
  });
})();
