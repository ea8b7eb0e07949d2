"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const small = Math.abs(value) >= 1e-5 && Math.abs(value) < 0.01;
    return small ? String(Number(value.toPrecision(2))) : value.toFixed(3);
  };

  /* Tables: a click or Enter on a heading sorts; what is undefined stays last. */
  for (const table of all("table.sortable")) {
    for (const [column, heading] of all("thead th", table).entries()) {
      const button = one("button", heading);
      if (!button) continue;
      button.addEventListener("click", () => {
        const before = heading.getAttribute("aria-sort");
        const first = heading.dataset.better === "lower" || heading.dataset.kind === "text" ? "ascending" : "descending";
        const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
        for (const other of all("thead th", table)) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const value = (row) => row.cells[column].dataset.value ?? "";
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const [x, y] = [value(a), value(b)];
          if (x === "" || y === "") return (x === "") - (y === "");
          return heading.dataset.kind === "text" ? sign * x.localeCompare(y) : sign * (Number(x) - Number(y));
        });
        table.tBodies[0].append(...rows);
      });
    }
  }

  /* Plots: one metric at a time. */
  for (const choice of all("select[data-plots]")) {
    const figures = all(`#${choice.dataset.plots} [data-metric]`);
    const show = () => figures.forEach((figure) => { figure.hidden = figure.dataset.metric !== choice.value; });
    choice.addEventListener("change", show);
    show();
  }

  /* Two methods compared. */
  for (const block of all("[data-versus]")) {
    const found = data.versus[block.dataset.versus];
    const [left, right] = all("select", block);
    const body = one("tbody", block);
    const show = () => {
      const straight = found.pairs[`${left.value}|${right.value}`];
      const turned = found.pairs[`${right.value}|${left.value}`];
      body.replaceChildren(...found.metrics.map((metric, index) => {
        const [wins, losses, ties, gain, p] = straight?.[index] ?? (turned ? turn(turned[index]) : [0, 0, 0, null, null]);
        const share = wins + losses + ties ? (100 * wins) / (wins + losses + ties) : 0;
        const loss = wins + losses + ties ? (100 * losses) / (wins + losses + ties) : 0;
        const bars = make("td");
        bars.append(
          make("span", { className: "bar", style: `width:${share * 0.9}px`, title: `${wins} won` }),
          make("span", { className: "bar other", style: `width:${loss * 0.9}px`, title: `${losses} lost` }));
        const row = make("tr", {}, make("th", { scope: "row", textContent: metric }));
        row.append(bars, ...[wins, losses, ties].map((value) => make("td", { textContent: value })));
        row.append(make("td", { textContent: gain === null ? "–" : (gain > 0 ? "+" : "") + gain.toFixed(4) }));
        row.append(make("td", { textContent: p === null ? "–" : p < 0.001 ? "< 0.001" : p.toFixed(3) }));
        return row;
      }));
    };
    const turn = ([wins, losses, ties, gain, p]) => [losses, wins, ties, gain === null ? null : -gain, p];
    left.addEventListener("change", show);
    right.addEventListener("change", show);
    show();
  }

  /* Gallery. */
  const viewer = document.getElementById("viewer");
  if (!viewer || !data.gallery.length) return;
  const stage = one(".stage", viewer), [under, over] = all("img", stage), canvas = one("canvas", stage), wipe = one("input", stage);
  const leftChoice = document.getElementById("left"), rightChoice = document.getElementById("right");
  const strip = one(".strip"), crops = one(".crops"), modes = all("[data-mode]");
  let at = 0, mode = "wipe", crop = 0;
  const decoded = new Map();
  const picture = (source) => {
    if (!decoded.has(source)) {
      const image = new Image();
      image.src = source;
      decoded.set(source, image.decode().then(() => image));
      if (decoded.size > 80) decoded.delete(decoded.keys().next().value);
    }
    return decoded.get(source);
  };
  const shot = () => data.gallery[at];
  const title = (name) => shot().titles[name] ?? name;

  const place = () => {
    stage.style.setProperty("--at", `${wipe.value}%`);
    wipe.setAttribute("aria-valuetext", `${wipe.value} % ${title(leftChoice.value)}, the rest ${title(rightChoice.value)}`);
  };
  wipe.addEventListener("input", place);

  const fill = (choice, wanted) => {
    const names = Object.keys(shot().images);
    choice.replaceChildren(...names.map((name) => make("option", { value: name, textContent: title(name) })));
    choice.value = names.includes(wanted) ? wanted : names[0];
  };

  const difference = async () => {
    const [a, b] = await Promise.all([leftChoice, rightChoice].map((choice) => picture(shot().images[choice.value])));
    canvas.width = a.naturalWidth;
    canvas.height = a.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const read = (image) => {
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      return context.getImageData(0, 0, canvas.width, canvas.height);
    };
    const first = read(a), second = read(b);
    const grey = (pixels, i) => 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
    for (let i = 0; i < first.data.length; i += 4) {
      const change = 3 * (grey(first.data, i) - grey(second.data, i));
      first.data[i] = Math.max(0, change);
      first.data[i + 1] = Math.abs(change) * 0.35;
      first.data[i + 2] = Math.max(0, -change);
    }
    context.putImageData(first, 0, 0);
  };

  const boxes = () => {
    all(".box", stage).forEach((box) => box.remove());
    const [width, height] = shot().size;
    shot().crops.forEach(([x, y, side], index) => {
      const box = make("span", { className: "box", ariaHidden: "true" }, make("b", { textContent: index + 1 }));
      box.style.cssText = `left:${(100 * x) / width}%;top:${(100 * y) / height}%;width:${(100 * side) / width}%;height:${(100 * side) / height}%`;
      box.hidden = index !== crop;
      stage.append(box);
    });
  };

  const drawCrops = () => {
    const chosen = shot().crops[crop];
    const [width] = shot().size;
    crops.replaceChildren(...(chosen ? Object.entries(shot().images) : []).map(([name, source]) => {
      const small = make("canvas", { width: 160, height: 160 });
      small.setAttribute("role", "img");
      small.setAttribute("aria-label", `Crop ${crop + 1} of ${title(name)}`);
      picture(source).then((image) => {
        const scale = image.naturalWidth / width;
        const context = small.getContext("2d");
        context.imageSmoothingEnabled = false;
        context.drawImage(image, chosen[0] * scale, chosen[1] * scale, chosen[2] * scale, chosen[2] * scale, 0, 0, 160, 160);
      });
      small.addEventListener("click", () => { rightChoice.value = name; draw(); });
      return make("figure", {}, small, make("figcaption", { textContent: title(name) }));
    }));
    document.getElementById("crop-buttons").replaceChildren(...shot().crops.map((_, index) => {
      const button = make("button", { className: "button", type: "button", textContent: index + 1, ariaPressed: String(index === crop) });
      button.setAttribute("aria-label", `Crop ${index + 1}`);
      button.addEventListener("click", () => { crop = index; drawCrops(); boxes(); });
      return button;
    }));
  };

  const facts = () => {
    const item = shot();
    one(".about", viewer).replaceChildren(
      make("h3", { textContent: item.key }),
      make("p", { className: "note", textContent: [...new Set(item.why)].join("; ") }),
      ...item.notes.map((text) => make("p", { className: "note", textContent: text })));
    const scores = data.scores[item.dataset]?.[item.key];
    const head = data.headlines[item.dataset] ?? [];
    const table = one("table", viewer);
    table.hidden = !scores;
    if (!scores) return;
    one("thead", table).replaceChildren(make("tr", {}, make("th", { textContent: "this pair" }), ...head.map((name) => make("th", { textContent: name }))));
    one("tbody", table).replaceChildren(...Object.entries(scores).map(([name, values]) => {
      const row = make("tr", {}, make("th", { scope: "row", textContent: data.titles[item.dataset][name] ?? name }));
      row.append(...values.map((value) => make("td", { textContent: number(value) })));
      return row;
    }));
  };

  const draw = async () => {
    const item = shot(), source = mode === "edges" ? { ...item.images, ...item.errors } : item.images;
    under.src = source[leftChoice.value];
    over.src = source[rightChoice.value];
    under.alt = `${title(leftChoice.value)} of ${item.key}`;
    over.alt = `${title(rightChoice.value)} of ${item.key}`;
    one(".left", stage).textContent = mode === "difference" ? `${title(leftChoice.value)} − ${title(rightChoice.value)}` : title(leftChoice.value);
    one(".right", stage).textContent = title(rightChoice.value);
    stage.classList.toggle("plain", mode === "difference");
    under.hidden = mode === "difference";
    canvas.hidden = mode !== "difference";
    modes.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.mode === mode)));
    all("[data-explains]").forEach((text) => { text.hidden = text.dataset.explains !== mode; });
    place();
    if (mode === "difference") await difference();
  };

  const go = (index) => {
    at = (index + data.gallery.length) % data.gallery.length;
    crop = 0;
    const [left, right] = [leftChoice.value, rightChoice.value];
    fill(leftChoice, left || data.start[0]);
    fill(rightChoice, right || data.start[1]);
    all("button", strip).forEach((button, place) => button.setAttribute("aria-current", String(place === at)));
    document.getElementById("position").textContent = `${at + 1} of ${data.gallery.length}`;
    boxes();
    drawCrops();
    facts();
    draw();
  };

  strip.replaceChildren(...data.gallery.map((item, index) => {
    const name = item.images[data.start[1]] ? data.start[1] : Object.keys(item.images)[0];
    const button = make("button", { type: "button" }, make("img", { src: item.images[name], alt: item.key, loading: "lazy" }));
    button.addEventListener("click", () => go(index));
    return button;
  }));
  modes.forEach((button) => button.addEventListener("click", () => { mode = button.dataset.mode; draw(); }));
  leftChoice.addEventListener("change", draw);
  rightChoice.addEventListener("change", draw);
  document.getElementById("previous").addEventListener("click", () => go(at - 1));
  document.getElementById("next").addEventListener("click", () => go(at + 1));
  document.getElementById("swap").addEventListener("click", () => {
    [leftChoice.value, rightChoice.value] = [rightChoice.value, leftChoice.value];
    draw();
  });
  viewer.addEventListener("keydown", (event) => {
    if (event.target.tagName === "SELECT" || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { n: 1, p: -1 }[event.key];
    if (step) go(at + step);
  });
  for (const button of all("[data-goto]")) {
    const index = data.gallery.findIndex((item) => item.key === button.dataset.goto && item.dataset === button.dataset.set);
    if (index < 0) { button.hidden = true; continue; }
    one("img", button).src = data.gallery[index].images[button.dataset.method] ?? Object.values(data.gallery[index].images)[0];
    button.addEventListener("click", () => {
      go(index);
      rightChoice.value = button.dataset.method;
      draw();
      viewer.scrollIntoView();
      wipe.focus({ preventScroll: true });
    });
  }
  go(0);
})();
