// Makes the pictures of the page easier to read: values under the pointer or the arrow keys, pictures as files.
// Without it, all of them stand as they are.
"use strict";
{
  const tooltip = document.createElement("div");
  tooltip.className = "tooltip";
  tooltip.setAttribute("role", "status");
  document.body.append(tooltip);

  let current = null;
  let byKeys = false;

  // The text of a mark, taken from its native tooltip so that there are not two.
  function textOf(mark) {
    const title = mark.querySelector("title");
    if (title) {
      mark.dataset.text = title.textContent;
      title.remove();
    }
    return mark.dataset.text;
  }

  const picture = (target) => target instanceof Element && target.closest(".view > svg");
  const isShown = (mark) => mark.getClientRects().length > 0;
  const marks = (svg) => [...svg.querySelectorAll(".mark")].filter(isShown);

  // Of the marker, which is drawn last: over the bar of the interval.
  function middle(mark) {
    const box = mark.lastElementChild.getBoundingClientRect();
    return { x: box.left + box.width / 2, y: box.top + box.height / 2 };
  }

  // Marks nearer to one another than this, in pixels, cover one another.
  const COVERED = 6;

  // One mark, and those that it covers.
  function show(mark, covered = []) {
    if (mark !== current) {
      current?.classList.remove("current");
      current = mark;
      mark.classList.add("current");
      tooltip.textContent = [mark, ...covered].map(textOf).join("\n");
    }
    const { x, y } = middle(mark);
    const { width, height } = tooltip.getBoundingClientRect();
    const left = Math.max(8, Math.min(x - width / 2, document.documentElement.clientWidth - width - 8));
    const top = y - height - 14 > 0 ? y - height - 14 : y + 14;
    tooltip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
    tooltip.classList.add("shown");
  }

  function hide() {
    current?.classList.remove("current");
    current = null;
    tooltip.classList.remove("shown");
  }

  const nearest = (candidates, distance) =>
    candidates.reduce((best, one) => (best === null || distance(one) < distance(best) ? one : best), null);

  function point(event) {
    const svg = picture(event.target);
    if (!svg) {
      if (!byKeys || event.type === "pointerdown") hide();
      return;
    }
    byKeys = false;
    svg.querySelector(":scope > title")?.remove();
    const distance = (mark, place) => {
      const { x, y } = middle(mark);
      return Math.hypot(x - place.x, y - place.y);
    };
    const all = marks(svg);
    const mark = nearest(all, (one) => distance(one, event));
    if (mark) show(mark, all.filter((one) => one !== mark && distance(one, middle(mark)) < COVERED));
  }

  // The next mark of the same server, or that of the next server nearest to where this one stands.
  function step(svg, key) {
    const all = marks(svg);
    if (!all.includes(current)) return all[0];
    const server = (mark) => mark.dataset.server;
    const x = (mark) => Number(mark.dataset.x);
    const away = (mark) => Math.abs(x(mark) - x(current));
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const before = key === "ArrowLeft";
      const there = (mark) => server(mark) === server(current) && (before ? x(mark) < x(current) : x(mark) > x(current));
      return nearest(all.filter(there), away) ?? current;
    }
    const servers = [...new Set(all.map(server))];
    const index = servers.indexOf(server(current)) + (key === "ArrowDown" ? 1 : servers.length - 1);
    const next = servers[index % servers.length];
    return nearest(all.filter((mark) => server(mark) === next), away);
  }

  function press(event) {
    if (event.key === "Escape") return hide();
    const svg = picture(event.target);
    if (!svg || !event.key.startsWith("Arrow") || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    byKeys = true;
    const mark = step(svg, event.key);
    if (mark) show(mark);
  }

  // A copy that shows the same in any viewer: styles resolved, what is hidden left out, on the page's paper.
  const RESOLVED = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "dominant-baseline"];

  function standalone(svg) {
    const copy = svg.cloneNode(true);
    const copies = [...copy.querySelectorAll("*")];
    [...svg.querySelectorAll("*")].forEach((original, index) => {
      const style = getComputedStyle(original);
      if (style.display === "none") copies[index].remove();
      else if (original.localName !== "title") {
        copies[index].removeAttribute("style");
        for (const name of RESOLVED) copies[index].setAttribute(name, style.getPropertyValue(name));
      }
    });
    const { width, height } = svg.viewBox.baseVal;
    const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    paper.setAttribute("width", width);
    paper.setAttribute("height", height);
    paper.setAttribute("fill", getComputedStyle(document.documentElement).backgroundColor);
    copy.prepend(paper);
    copy.querySelectorAll(".current").forEach((mark) => mark.classList.remove("current"));
    copy.removeAttribute("tabindex");
    copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
    copy.setAttribute("width", 2 * width);
    copy.setAttribute("height", 2 * height);
    return new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
  }

  async function raster(blob) {
    const url = URL.createObjectURL(blob);
    try {
      const image = new Image();
      image.src = url;
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [2 * image.width, 2 * image.height];
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      return await new Promise((done) => canvas.toBlob(done, "image/png"));
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  async function download(event) {
    const button = event.target instanceof Element && event.target.closest(".download");
    if (!button) return;
    const figure = button.closest("figure.picture");
    const svg = [...figure.querySelectorAll(".view svg")].find((one) => one.getClientRects().length > 0);
    const drawn = standalone(svg);
    const { format } = button.dataset;
    save(format === "png" ? await raster(drawn) : drawn, `${figure.id}.${format}`);
  }

  function addDownloads(figure) {
    const title = figure.querySelector(".view > svg").getAttribute("aria-label");
    const group = document.createElement("div");
    group.className = "downloads";
    for (const format of ["svg", "png"]) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "download";
      button.dataset.format = format;
      button.textContent = format.toUpperCase();
      button.setAttribute("aria-label", `${format.toUpperCase()}: download ${title}`);
      group.append(button);
    }
    figure.querySelector(".toolbar").append(group);
  }

  for (const figure of document.querySelectorAll("figure.picture")) {
    addDownloads(figure);
    for (const svg of figure.querySelectorAll(".view svg")) svg.tabIndex = 0;
  }
  document.addEventListener("pointermove", point, { passive: true });
  document.addEventListener("pointerdown", point, { passive: true });
  document.addEventListener("keydown", press);
  document.addEventListener("click", download);
  document.addEventListener("focusout", hide);
  document.addEventListener("scroll", hide, { passive: true, capture: true });
}
