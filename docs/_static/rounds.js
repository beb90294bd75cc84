// The figure of rounds: error of every state after the round that the slider names. No library, no network.
(() => {
  const figure = document.getElementById("rounds");
  if (!figure) return;
  const data = JSON.parse(document.getElementById("rounds-data").textContent);
  const slider = document.getElementById("rounds-slider");
  const play = document.getElementById("rounds-play");
  const says = document.getElementById("rounds-says");
  const radios = [...figure.querySelectorAll("input[type=radio]")];
  let width = 560;
  const height = 250, left = 46, right = 8, top = 10, bottom = 34, floor = -6, ceiling = 0.5;
  const svg = "http://www.w3.org/2000/svg";
  let timer = null;

  const make = (name, attributes, text) => {
    const node = document.createElementNS(svg, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const x = (state) => left + ((width - left - right) * state) / data.steps;
  const y = (error) => {
    const level = Math.min(Math.max(Math.log10(Math.max(error, 1e-12)), floor), ceiling);
    return top + ((height - top - bottom) * (ceiling - level)) / (ceiling - floor);
  };
  const path = (errors) => errors.map((error, state) => `${state ? "L" : "M"}${x(state).toFixed(1)},${y(error).toFixed(1)}`).join("");

  function curve(rounds, shown) {
    const now = rounds[shown];
    const label = `Error of the ${data.steps + 1} states after round ${shown + 1}, logarithmic`;
    const root = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
    root.append(make("rect", { class: "accepted", x: left, y: top, width: x(now.accepted) - left, height: height - top - bottom }));
    for (let power = floor; power <= 0; power += 1) {
      root.append(make("line", { class: "grid", x1: left, x2: width - right, y1: y(10 ** power), y2: y(10 ** power) }));
      root.append(make("text", { x: left - 6, y: y(10 ** power) + 4, "text-anchor": "end" }, power ? `1e${power}` : "1"));
    }
    for (let state = 0; state <= data.steps; state += 10)
      root.append(make("text", { x: x(state), y: height - bottom + 15, "text-anchor": "middle" }, state));
    root.append(make("text", { x: (left + width) / 2, y: height - 4, "text-anchor": "middle" }, "state: 0 is noise, the last the sample"));
    rounds.slice(0, shown).forEach((each) => root.append(make("path", { class: "before", d: path(each.error) })));
    root.append(make("path", { class: "now", d: path(now.error) }));
    return root;
  }

  function picture(levels, title) {
    const [rows, columns] = data.shape;
    const box = document.createElement("figure");
    const root = make("svg", { viewBox: `0 0 ${columns} ${rows}`, role: "img", "aria-label": title, "shape-rendering": "crispEdges" });
    levels.forEach((level, at) => {
      const grey = 255 - level;
      root.append(make("rect", { x: at % columns, y: Math.floor(at / columns), width: 1, height: 1, fill: `rgb(${grey},${grey},${grey})` }));
    });
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    box.append(root, caption);
    return box;
  }

  function show() {
    const method = radios.find((radio) => radio.checked).value;
    const rounds = data.methods[method].rounds;
    slider.max = rounds.length;
    const shown = Math.min(Number(slider.value), rounds.length) - 1;
    slider.value = shown + 1;
    const now = rounds[shown];
    const error = now.error[data.steps];
    const room = document.getElementById("rounds-curve");
    width = Math.max(280, room.clientWidth || width); // one unit a pixel: text stays readable on a phone
    room.replaceChildren(curve(rounds, shown));
    document.getElementById("rounds-samples").replaceChildren(
      picture(now.sample, `after ${shown + 1}`), picture(data.exact, `${data.steps} steps`));
    const bound = now.bound === null ? "no bound yet" : `at most ${now.bound.toPrecision(2)} by the bound`;
    const end = shown + 1 === rounds.length ? ` ${data.methods[method].result}.` : "";
    says.textContent = `${method}, round ${shown + 1} of ${rounds.length}: error of the sample ${error.toPrecision(2)}, ${bound}; ${now.accepted} of ${data.steps} states accepted.${end}`;
    slider.setAttribute("aria-valuetext", `round ${shown + 1} of ${rounds.length}, error ${error.toPrecision(2)}`);
    figure.dataset.shown = shown + 1;
  }

  function stop() {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  }
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 1;
    play.textContent = "Stop";
    show();
    timer = setInterval(() => {
      if (slider.value === slider.max) return stop();
      slider.value = Number(slider.value) + 1;
      show();
    }, 900);
  });
  slider.addEventListener("input", () => { stop(); show(); });
  radios.forEach((radio) => radio.addEventListener("change", () => { stop(); show(); }));
  window.addEventListener("resize", show);
  radios[Math.min(1, radios.length - 1)].checked = true;
  slider.max = 99;
  slider.value = 2;
  show();
})();
