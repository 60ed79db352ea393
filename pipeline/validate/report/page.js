"use strict";
// The Tab key stops at a box only while it scrolls.
const sizes = new ResizeObserver((entries) => {
  for (const { target: box } of entries) {
    const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    box.tabIndex = scrolls ? 0 : -1;
  }
});
for (const box of document.querySelectorAll(".scroll")) sizes.observe(box);

// Mark the section that is read in the navigation.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const sections = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    for (const link of links.values()) link.removeAttribute("aria-current");
    links.get(target.id)?.setAttribute("aria-current", "true");
  }
}, { rootMargin: "-20% 0px -70% 0px" });
for (const section of document.querySelectorAll("section")) sections.observe(section);

// Sort a table by the column whose button was pressed: numbers by data-v, text as a reader would.
for (const button of document.querySelectorAll(".sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const numeric = head.classList.contains("n");
    const first = numeric ? "descending" : "ascending";
    const second = numeric ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    for (const other of head.parentNode.cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
    const value = (row) => numeric ? Number(row.cells[column].dataset.v) : row.cells[column].textContent;
    const compare = (a, b) => numeric ? a - b : a.localeCompare(b, "en", { numeric: true });
    body.append(...Array.from(body.rows).sort((a, b) => sign * compare(value(a), value(b))));
  });
}

// The list of chips, filtered by label, prediction and key. A row is [key, row, column, labels,
// predictions, score]; keys and labels are places in data.keys and data.labels.
const browser = document.querySelector(".browser");
if (browser) {
  const data = JSON.parse(browser.querySelector("script").textContent);
  const form = browser.querySelector("form");
  const gallery = browser.querySelector(".gallery");
  const table = browser.querySelector("tbody");
  const status = browser.querySelector(".status");
  const more = browser.querySelector(".more");
  const pictures = new Map([...document.querySelectorAll("img[data-row]")].map((image) => [Number(image.dataset.row), image]));
  const none = data.labels.length; // the place of "(none)" in the confusion matrix
  const page = 50;
  let shown = page;

  for (const name of ["label", "predicted"]) {
    form[name].append(...data.labels.map((label, place) => new Option(label, place)));
    if (data.multilabel) form[name].append(new Option("(none)", none));
  }

  const has = (labels, place) => labels.includes(place);
  const fits = (labels, others, place) => {
    if (place === "") return true;
    if (Number(place) === none) return others.some((other) => !has(labels, other)) || labels.length === 0;
    return has(labels, Number(place));
  };
  const wanted = ([key, , , labels, predictions]) => {
    const label = form.label.value;
    const predicted = form.predicted.value;
    const wrong = labels.join() !== predictions.join();
    if (form.wrong.checked && !wrong) return false;
    if (!data.keys[key].toLowerCase().includes(form.key.value.toLowerCase())) return false;
    if (Number(predicted) === none && predicted !== "" && label !== "" && Number(label) !== none)
      return has(labels, Number(label)) && !has(predictions, Number(label));
    if (Number(label) === none && label !== "" && predicted !== "" && Number(predicted) !== none)
      return has(predictions, Number(predicted)) && !has(labels, Number(predicted));
    return fits(labels, predictions, label) && fits(predictions, labels, predicted);
  };
  const names = (places) => places.map((place) => data.labels[place]).join(", ") || "no label";

  const card = ([key, row, column, labels, predictions, score], image) => {
    const item = document.createElement("li");
    const figure = item.appendChild(document.createElement("figure"));
    figure.appendChild(Object.assign(new Image(), { src: image.src, alt: image.alt }));
    const caption = figure.appendChild(document.createElement("figcaption"));
    const right = labels.join() === predictions.join();
    caption.append(names(labels), right ? " (correct, " : ` → ${names(predictions)} (`, score.toFixed(2), ")");
    caption.appendChild(document.createElement("small")).textContent = `${data.keys[key]} · ${row}, ${column}`;
    item.className = right ? "correct" : "wrong";
    return item;
  };
  const line = ([key, row, column, labels, predictions, score]) => {
    const cells = [data.keys[key], row, column, names(labels), names(predictions), score.toFixed(2)];
    const element = document.createElement("tr");
    element.append(...cells.map((text, place) => {
      const cell = document.createElement(place ? "td" : "th");
      cell.textContent = text;
      if (typeof text === "number" || place === 5) cell.className = "n";
      return cell;
    }));
    element.firstChild.scope = "row";
    return element;
  };

  const show = () => {
    const found = data.rows.map((row, place) => [row, pictures.get(place)]).filter(([row]) => wanted(row));
    gallery.replaceChildren(...found.filter(([, image]) => image).map(([row, image]) => card(row, image)));
    table.replaceChildren(...found.slice(0, shown).map(([row]) => line(row)));
    const count = found.length.toLocaleString("en");
    status.textContent = found.length > shown ? `${shown} of ${count} chips` : `${count} chip${found.length === 1 ? "" : "s"}`;
    more.hidden = found.length <= shown;
  };
  const filter = () => { shown = page; show(); };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));
  more.addEventListener("click", () => { shown += page; show(); });

  // A cell of the confusion matrix, or a count in a table, opens its chips.
  document.addEventListener("click", (event) => {
    const cell = event.target.closest(".cell, .browse");
    if (!cell || Number(cell.dataset.label) < 0 || Number(cell.dataset.predicted) < 0) return;
    form.reset();
    form.label.value = cell.dataset.label;
    form.predicted.value = cell.dataset.predicted;
    form.wrong.checked = cell.dataset.label !== cell.dataset.predicted;
    filter();
    browser.closest("section").scrollIntoView();
    status.focus({ preventScroll: true });
  });
  browser.hidden = false;
  show();
}
