"use strict";
// Rotatable structures: bonds, atoms and force arrows of each <canvas data-view>, drawn back to front.
(() => {
  const look = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function turn([x, y, z], about, up) {
    const [c, s, d, t] = [Math.cos(about), Math.sin(about), Math.cos(up), Math.sin(up)];
    const [u, w] = [c * x + s * z, c * z - s * x];
    return [u, d * y - t * w, t * y + d * w];
  }

  class View {
    constructor(canvas) {
      this.canvas = canvas;
      this.data = JSON.parse(canvas.dataset.view);
      this.reach = Math.max(...this.data.positions.map((p) => Math.hypot(...p))) + 0.8;
      const longest = Math.max(...[...this.data.teacher, ...this.data.student].map((f) => Math.hypot(...f)), 1e-9);
      this.arrow = 0.55 * this.reach / longest; // Å of arrow for each eV/Å
      this.reset();
      canvas.addEventListener("keydown", (event) => this.key(event));
      canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
      canvas.addEventListener("pointermove", (event) => {
        if (event.buttons) this.move(event.movementX / 110, event.movementY / 110);
      });
      new ResizeObserver(() => this.draw()).observe(canvas);
    }

    reset() {
      [this.about, this.up, this.zoom, this.arrows] = [0.3, 0.25, 1, 1];
      this.draw();
    }

    move(about, up) {
      this.about += about;
      this.up += up;
      this.draw();
    }

    key(event) {
      const step = 0.12;
      const does = {
        ArrowLeft: () => this.move(-step, 0), ArrowRight: () => this.move(step, 0),
        ArrowUp: () => this.move(0, -step), ArrowDown: () => this.move(0, step),
        "+": () => { this.zoom *= 1.15; }, "=": () => { this.zoom *= 1.15; }, "-": () => { this.zoom /= 1.15; },
        "]": () => { this.arrows *= 1.3; }, "[": () => { this.arrows /= 1.3; }, 0: () => this.reset(),
      }[event.key];
      if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      does();
      this.draw();
    }

    draw() {
      const { canvas, data } = this;
      const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, window.devicePixelRatio || 1];
      if (!width || !height) return;
      [canvas.width, canvas.height] = [width * ratio, height * ratio];
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const size = this.zoom * Math.min(width, height) / 2 / this.reach;
      const place = (p) => {
        const [x, y, z] = turn(p, this.about, this.up);
        return [width / 2 + size * x, height / 2 - size * y, z];
      };
      const atoms = data.positions.map(place);
      const parts = [];
      const line = (a, b, colour, thick) => {
        pen.strokeStyle = colour;
        pen.lineWidth = thick;
        pen.beginPath();
        pen.moveTo(a[0], a[1]);
        pen.lineTo(b[0], b[1]);
        pen.stroke();
      };
      pen.lineCap = "round";
      for (const [i, j] of data.bonds) {
        const depth = (atoms[i][2] + atoms[j][2]) / 2 - 0.05;
        parts.push([depth, () => line(atoms[i], atoms[j], look("--bond"), Math.max(1.5, 0.13 * size))]);
      }
      atoms.forEach(([x, y, z], i) => parts.push([z, () => {
        pen.fillStyle = data.colours[i];
        pen.strokeStyle = look("--edge");
        pen.lineWidth = 1;
        pen.beginPath();
        pen.arc(x, y, size * data.radii[i], 0, 2 * Math.PI);
        pen.fill();
        pen.stroke();
        if (i !== data.worst) return;
        pen.beginPath();
        pen.arc(x, y, size * data.radii[i] + 5, 0, 2 * Math.PI);
        pen.strokeStyle = look("--ink");
        pen.lineWidth = 2;
        pen.stroke();
      }]));
      for (const [name, thick] of [["teacher", 4], ["student", 2]]) {
        data[name].forEach((force, i) => {
          const length = this.arrow * this.arrows;
          const tip = place(data.positions[i].map((p, k) => p + length * force[k]));
          const [dx, dy] = [tip[0] - atoms[i][0], tip[1] - atoms[i][1]];
          const far = Math.hypot(dx, dy);
          if (far < 2) return;
          parts.push([(atoms[i][2] + tip[2]) / 2 + 0.3, () => {
            const colour = look(`--${name}`);
            line(atoms[i], tip, colour, thick);
            const head = Math.min(4 + thick, far / 2);
            for (const side of [0.45, -0.45]) {
              const angle = Math.atan2(dy, dx) + Math.PI + side;
              line(tip, [tip[0] + head * Math.cos(angle), tip[1] + head * Math.sin(angle)], colour, thick);
            }
          }]);
        });
      }
      parts.sort((a, b) => a[0] - b[0]).forEach(([, paint]) => paint());
      canvas.dataset.drawn = String(parts.length);
    }
  }

  const views = [...document.querySelectorAll("canvas[data-view]")].map((canvas) => new View(canvas));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => views.forEach((view) => view.draw()));

  // Following a link to a finding opens its row.
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  addEventListener("hashchange", open);
  open();
})();
