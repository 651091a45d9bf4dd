
"use strict";
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
all(".script-only").forEach(part => { part.hidden = false; });

// Tables are sorted by the buttons in their titles; cells without a number stay last.
const collator = new Intl.Collator("en", {numeric: true});
const keyOf = cell => cell.dataset.key === undefined ? NaN : Number(cell.dataset.key);
const order = (a, b, numeric) => {
  if (!numeric) return collator.compare(a.textContent, b.textContent);
  return keyOf(a) - keyOf(b);
};
all("table.scores").forEach(table => {
  const titles = all("thead th", table), body = table.tBodies[0], rows = [...body.rows];
  titles.forEach((title, column) => title.firstElementChild.addEventListener("click", () => {
    const down = title.getAttribute("aria-sort") === "ascending";
    const numeric = title.classList.contains("number");
    const lacks = row => numeric && Number.isNaN(keyOf(row.cells[column]));
    titles.forEach(other => other.removeAttribute("aria-sort"));
    title.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sorted = rows.filter(row => !lacks(row));
    sorted.sort((a, b) => order(a.cells[column], b.cells[column], numeric) * (down ? -1 : 1));
    body.append(...sorted, ...rows.filter(lacks));
  }));
});

// One filter for all tables: rows that have every word.
const filter = document.getElementById("filter"), shown = document.getElementById("shown");
if (filter) {
  const rows = all("table.scores tbody tr");
  const apply = () => {
    const words = filter.value.toLowerCase().split(/\s+/);
    rows.forEach(row => {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
    });
    shown.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} rows shown`;
  };
  filter.addEventListener("input", apply);
  apply();
}

// Clips of a gallery play and step together. Browsers play some 75 videos at once, so the others are put away.
// While they step, the browser's own controls do not hide them.
const loaded = video => new Promise(done => {
  if (video.readyState >= 2) { done(); return; }
  ["loadeddata", "error"].forEach(name => video.addEventListener(name, done, {once: true}));
  video.preload = "auto";
  video.load();
});
const galleries = all(".gallery");
galleries.forEach(gallery => {
  const videos = all("video", gallery), status = gallery.querySelector("[role=status]");
  const fps = Number(gallery.dataset.fps), frames = Number(gallery.dataset.frames);
  let frame = -1;
  const prepare = async () => {
    galleries.filter(other => other !== gallery).forEach(other => all("video", other).forEach(video => {
      video.preload = "none";
      video.load();
    }));
    await Promise.all(videos.map(loaded));
  };
  const step = async change => {
    await prepare();
    videos.forEach(video => { video.pause(); video.controls = false; });
    frame = (Math.max(frame, change < 0 ? 0 : -1) + change + frames) % frames;
    videos.forEach(video => { video.currentTime = (Math.min(frame, video.dataset.frames - 1) + 0.5) / fps; });
    status.textContent = `Frame ${frame + 1} of ${frames}`;
  };
  const actions = {
    play: async () => {
      await prepare();
      frame = -1;
      videos.forEach(video => { video.currentTime = 0; });
      await Promise.allSettled(videos.map(video => video.play()));
      status.textContent = "Playing";
    },
    pause: () => {
      videos.forEach(video => { video.pause(); video.controls = true; });
      status.textContent = "Paused";
    },
    back: () => step(-1),
    on: () => step(1),
  };
  videos.forEach(video => video.addEventListener("pointerenter", () => { video.controls = true; }));
  all("button", gallery).forEach(button => button.addEventListener("click", actions[button.dataset.do]));
});

// On paper everything is open.
addEventListener("beforeprint", () => all("details.run").forEach(part => { part.open = true; }));
