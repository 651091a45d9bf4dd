"use strict";
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
