"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
all(".script-only").forEach(part => { part.hidden = false; });

// A table is sorted by the buttons in its titles, each group by itself; cells without a number stay last.
const collator = new Intl.Collator("en", {numeric: true});
const keyOf = cell => cell.dataset.key === undefined ? NaN : Number(cell.dataset.key);
const order = (a, b, numeric) => {
  if (!numeric) return collator.compare(a.textContent, b.textContent);
  return keyOf(a) - keyOf(b);
};
all("table.scores").forEach(table => {
  const titles = all("thead th", table);
  const groups = [...table.tBodies].map(body => [body, all("tr.row", body)]);
  titles.forEach((title, column) => title.firstElementChild.addEventListener("click", () => {
    const down = title.getAttribute("aria-sort") === "ascending";
    const numeric = title.classList.contains("number");
    const lacks = row => numeric && Number.isNaN(keyOf(row.cells[column]));
    titles.forEach(other => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    groups.forEach(([body, rows]) => {
      const sorted = rows.filter(row => !lacks(row));
      sorted.sort((a, b) => order(a.cells[column], b.cells[column], numeric) * (down ? -1 : 1));
      body.append(...sorted, ...rows.filter(lacks));
    });
  }));
});

// One filter for all tables: rows with words that begin like each one typed, and with the chosen conditions.
const filter = document.getElementById("filter"), shown = document.getElementById("shown");
if (filter) {
  const rows = all("[data-hide] tr.row"), parts = all("[data-hide]"), choices = all("select[data-condition]");
  const plain = text => ` ${text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ")}`;
  const titleOf = row => row.closest("[data-hide]").querySelector(".title label, h3")?.textContent ?? "";
  const texts = new Map(rows.map(row => [row, plain(`${titleOf(row)} ${row.textContent}`)]));
  const apply = () => {
    const words = plain(filter.value).trim().split(" ");
    const chosen = choices.filter(choice => choice.value);
    rows.forEach(row => {
      const fits = choice => row.closest("table").dataset.anchor !== choice.dataset.table
        || all("td", row).some(cell => cell.dataset.label === choice.dataset.condition && cell.textContent === choice.value);
      row.hidden = !(words.every(word => texts.get(row).includes(` ${word}`)) && chosen.every(fits));
    });
    parts.forEach(part => { part.hidden = !all("tr.row", part).some(row => !row.hidden); });
    shown.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} rows shown`;
  };
  [filter, ...choices].forEach(control => control.addEventListener("input", apply));
  apply();
}

// Copy what a button names; a page that is a file may lack the clipboard, then the text is selected.
all("button[data-copy]").forEach(button => button.addEventListener("click", async () => {
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    getSelection().selectAllChildren(source);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
}));

// On paper everything is open.
addEventListener("beforeprint", () => all("details.run").forEach(part => { part.open = true; }));
