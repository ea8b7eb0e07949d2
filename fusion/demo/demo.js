"use strict";
(() => {
  const id = (name) => document.getElementById(name);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  let setup = null;

  /* Talking to the server: a failure is an answer with a problem in it. */
  const problem = (text) => {
    id("problem").textContent = text;
    id("problem").hidden = !text;
    if (text) id("problem").scrollIntoView({ block: "nearest" });
  };
  const reach = async (path, options = {}) => {
    try {
      const response = await fetch(path, options);
      if (response.ok) return response;
      const { problem: said } = await response.json().catch(() => ({}));
      problem(said ?? `the server failed at that (${response.status}); the terminal it was started from says why`);
    } catch {
      problem("the server does not answer; is it still running?");
    }
    return null;
  };
  const ask = async (path, options = {}) => {
    const answer = await (await reach(path, options))?.json();
    if (answer?.problem) problem(answer.problem);
    return answer && !answer.problem ? answer : null;
  };
  const save = async (event) => {
    event.preventDefault();
    problem("");
    const link = event.currentTarget, response = await reach(link.href);
    if (!response) return;
    const href = URL.createObjectURL(await response.blob());
    make("a", { href, download: link.download }).click();
    setTimeout(() => URL.revokeObjectURL(href), 60000);
  };
  const post = (path, body) => ask(path, { method: "POST", body });
  const query = (values) => new URLSearchParams(values).toString();
  const fill = (select, values, label = (value) => value) =>
    select.replaceChildren(...values.map((value) => make("option", { value, textContent: label(value) })));
  const facts = (table, rows) =>
    table.replaceChildren(...rows.map(([name, value]) =>
      make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", { textContent: value }))));

  /* Tabs: a click, or the arrow keys. */
  const tabs = all("[role=tab]");
  const open = (tab) => {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", chosen);
      other.tabIndex = chosen ? 0 : -1;
      id(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    problem("");
    if (tab.id === "tab-store") showStore();
    if (tab.id === "tab-report") showReport();
  };
  for (const tab of tabs) {
    tab.addEventListener("click", () => open(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const shown = tabs.filter((other) => !other.hidden);
      const next = shown[(shown.indexOf(tab) + step + shown.length) % shown.length];
      next.focus();
      open(next);
    });
  }

  /* Files dropped or chosen; each goes up at once, so that what is wrong with it is said at once. */
  const given = { images: {}, video: {} };
  const mebibytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
  const upload = async (panel, side, file, kind) => {
    problem("");
    if (file.size > setup.limit) {
      problem(`${file.name}: ${mebibytes(file.size)}; at most ${mebibytes(setup.limit)} are taken here`);
      return;
    }
    const answer = await post(`api/upload?${query({ name: file.name, kind })}`, file);
    if (answer) place(panel, side, answer);
  };
  const place = (panel, side, item) => {
    given[panel][side] = item;
    const drop = document.querySelector(`#${panel} .drop[data-side=${side}]`);
    drop.querySelector(".hint").textContent = item.width ? `${item.name}, ${item.width} × ${item.height}` : item.name;
    const image = drop.querySelector("img");
    if (image) {
      image.src = `picture/${item.token}`;
      image.alt = item.name;
      image.hidden = false;
    }
    const both = given[panel].first && given[panel].second;
    id(panel === "images" ? "fuse" : "video-fuse").disabled = !both;
    if (both && panel === "images") fuse();
  };
  for (const drop of all(".drop")) {
    const panel = drop.closest("section").id, kind = panel === "video" ? "video" : "image";
    const input = drop.querySelector("input");
    input.addEventListener("change", () => {
      if (input.files[0]) upload(panel, drop.dataset.side, input.files[0], kind);
      input.value = "";
    });
    for (const name of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", name === "dragover");
        if (name === "drop" && event.dataTransfer.files[0]) upload(panel, drop.dataset.side, event.dataTransfer.files[0], kind);
      });
    }
  }
  id("sample").addEventListener("change", async (event) => {
    if (event.target.value === "") return;
    problem("");
    id("status").textContent = "fetching the sample…";
    const items = await post(`api/sample/${event.target.value}`);
    id("status").textContent = "";
    if (!items) return;
    given.images = {};
    place("images", "first", items[0]);
    place("images", "second", items[1]);
  });

  /* Fusing, and the wipe. */
  let turn = 0, fused = null;
  const fuse = async () => {
    const { first, second } = given.images, mine = ++turn;
    if (!first || !second) return;
    problem("");
    id("status").textContent = "fusing…";
    const answer = await post(`api/fuse?${query({
      first: first.token, second: second.token, weights: id("weights").value, engine: id("engine").value, tile: id("tile").value,
      align: id("align").value, resize: id("resize").checked,
    })}`);
    if (mine !== turn) return;
    id("status").textContent = "";
    id("result").hidden = !answer;
    if (!answer) return;
    fused = answer;
    id("over").src = `picture/${answer.token}`;
    showSource();
    showDownload();
    facts(id("facts"), [
      ["size", `${answer.width} × ${answer.height}`],
      ["time", `${answer.milliseconds} ms`],
      ...Object.entries(answer.scores).map(([name, value]) => [name, value === null ? "undefined" : value.toFixed(3)]),
    ]);
  };
  const showSource = () => {
    const source = fused.sources[id("source").value];
    id("under").src = `picture/${source.token}`;
    document.querySelector(".stage .left").textContent = source.name;
  };
  const showDownload = () => {
    id("download").href = `download/${fused.token}?${query({ format: id("format").value })}`;
    id("download").download = fused.name.replace(/\.png$/, id("format").value);
  };
  const wipe = () => {
    const at = id("wipe").value;
    document.querySelector(".stage").style.setProperty("--at", `${at}%`);
    id("wipe").setAttribute("aria-valuetext", `${at} % source, ${100 - at} % fused`);
  };
  id("wipe").addEventListener("input", wipe);
  id("fuse").addEventListener("click", fuse);
  for (const name of ["weights", "engine", "tile", "align", "resize"]) id(name).addEventListener("change", fuse);
  id("source").addEventListener("change", showSource);
  id("format").addEventListener("change", showDownload);
  for (const name of ["download", "video-download"]) id(name).addEventListener("click", save);

  /* Videos. */
  id("video-fuse").addEventListener("click", async () => {
    const { first, second } = given.video;
    problem("");
    id("video-fuse").disabled = true;
    id("video-status").textContent = "fusing…";
    const answer = await post(`api/video?${query({
      first: first.token, second: second.token, weights: id("video-weights").value, align: id("video-align").value,
      resize: id("video-resize").checked,
    })}`);
    id("video-fuse").disabled = false;
    id("video-status").textContent = "";
    id("video-result").hidden = !answer;
    if (!answer) return;
    document.querySelector("#video-result video").src = `video/${answer.token}`;
    id("video-download").href = `video/${answer.token}?download=1`;
    id("video-download").download = answer.name;
    facts(id("video-facts"), Object.entries(answer.facts));
  });

  /* Stores. */
  let page = 0, shelf = null, leaf = 0;
  const showStore = async () => {
    id("no-store").hidden = setup.stores.length > 0;
    id("store-view").hidden = setup.stores.length === 0;
    if (!setup.stores.length) return;
    const mine = ++leaf;
    const answer = await ask(`api/store/${id("store-choice").value}?${query({ page, event: id("event").value, prior: id("prior").value })}`);
    if (mine !== leaf) return;
    if (!answer) {
      id("pairs").replaceChildren();
      id("where").textContent = "";
      return;
    }
    shelf = answer;
    page = shelf.page;
    let told = false; // of a picture that cannot be shown
    const event = id("event").value, prior = shelf.prior;
    fill(id("prior"), shelf.priors);
    id("prior").value = prior;
    fill(id("event"), ["", ...shelf.labels], (value) => (value ? value.replaceAll("_", " ") : "all"));
    id("event").value = event;
    id("where").textContent = `${shelf.total} pairs, page ${shelf.page + 1} of ${shelf.pages}`;
    id("before").disabled = shelf.page === 0;
    id("after").disabled = shelf.page + 1 >= shelf.pages;
    id("pairs").replaceChildren(...shelf.pairs.map((pair) => {
      const pictures = shelf.modalities.map((modality, side) => make("img", {
        src: `store/${id("store-choice").value}/${side}/${encodeURIComponent(pair.key)}`,
        alt: `${pair.key}, ${modality}`, title: modality, loading: "lazy",
      }));
      for (const picture of pictures) {
        picture.addEventListener("error", () => {
          if (!told) reach(picture.src);
          told = true;
        });
      }
      const events = pair.events.map((one) => make("span", {
        className: "event", textContent: `${one.modality}: ${one.type.replaceAll("_", " ")}${one.severity ? `, ${one.severity}` : ""}`,
      }));
      const caption = make("figcaption", {}, make("strong", { textContent: pair.key }), ` ${pair.split}, ${pair.size}`);
      caption.append(make("div", {}, ...events), make("p", { textContent: pair.caption || pair.error }));
      return make("figure", {}, make("div", { className: "both" }, ...pictures), caption);
    }));
  };
  const turnTo = (number) => {
    problem("");
    page = Math.max(0, number);
    showStore();
  };
  id("before").addEventListener("click", () => turnTo(page - 1));
  id("after").addEventListener("click", () => turnTo(Math.min(page + 1, (shelf?.pages ?? 1) - 1)));
  for (const name of ["event", "prior"]) id(name).addEventListener("change", () => turnTo(0));
  id("store-choice").addEventListener("change", () => {
    id("event").replaceChildren();
    id("prior").replaceChildren();
    turnTo(0);
  });

  /* Benchmarks. */
  const showReport = async () => {
    id("no-report").hidden = setup.reports.length > 0;
    id("report-view").hidden = setup.reports.length === 0;
    if (!setup.reports.length) return;
    const shown = `report/${id("report-choice").value}`, frame = document.querySelector("#report iframe");
    problem("");
    const there = await reach(shown);
    if (shown !== `report/${id("report-choice").value}`) return;
    frame.hidden = !there;
    if (there) frame.src = shown;
  };
  id("report-choice").addEventListener("change", showReport);

  ask("api/setup").then((answer) => {
    if (!answer) return;
    setup = answer;
    fill(id("weights"), setup.weights);
    fill(id("video-weights"), setup.weights);
    fill(id("engine"), setup.engines);
    fill(id("tile"), setup.tiles, (value) => (value ? `${value} px` : "whole image"));
    for (const name of ["align", "video-align"]) {
      id(name).append(...setup.aligns.map((value) => make("option", { value, textContent: value })));
    }
    id("seconds").textContent = setup.seconds;
    fill(id("format"), setup.formats, (value) => value.slice(1));
    id("sample").append(...setup.samples.map((title, index) => make("option", { value: index, textContent: title })));
    const numbered = (select, names) => select.append(...names.map((name, index) => make("option", { value: index, textContent: name })));
    numbered(id("store-choice"), setup.stores);
    numbered(id("report-choice"), setup.reports);
    id("tab-video").hidden = !setup.video;
    wipe();
    document.body.dataset.ready = "yes";
  });
})();
