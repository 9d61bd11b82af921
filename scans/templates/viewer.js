"use strict";
(() => {
  const root = document.getElementById("look");
  const find = (selector) => root.querySelector(selector);
  const make = (kind, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(kind), properties);
    element.append(...children);
    return element;
  };
  const canvas = find("canvas");
  const packed = new Map([...root.querySelectorAll(".look-packed")].map((each) => [each.dataset.name, each]));
  const PLANES = ["sagittal", "coronal", "axial"]; // by the axis, x, y or z in space, that stands on them
  const OUTSIDE = 0; // the code of voxels that a layer has nothing in
  let view, scene, voxel, plane, asked;

  // Loading

  const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));

  async function start() {
    if (!document.createElement("canvas").getContext("webgl2") || !window.DecompressionStream)
      throw new Error("this browser has no WebGL 2, or is too old");
    const stream = new Blob([bytesOf(find(".look-niivue").textContent)]).stream();
    const text = await new Response(stream.pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(make("script", { textContent: text }));
    if (!window.niivue) throw new Error("the browser refused the page's own viewer");
    view = new niivue.Niivue({
      backColor: [0, 0, 0, 1], fontColor: [0.85, 0.85, 0.85, 1], fontMinPx: 12, fontSizeScaling: 0.3,
      crosshairColor: [0.35, 0.75, 0.95, 0.7], crosshairWidth: 0.7, crosshairWidthUnit: "percent", crosshairGap: 4,
      isRadiologicalConvention: true, sagittalNoseLeft: true, showAllOrientationMarkers: true,
      multiplanarShowRender: 0, tileMargin: -1, multiplanarPadPixels: 4, isNearestInterpolation: true,
      isForceMouseClickToVoxelCenters: true, scrollRequiresFocus: true, dragAndDropEnabled: false,
      viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", loadingText: "", logLevel: "silent",
    });
    view.onLocationChange = ({ mm }) => tell(voxelOf(mm));
    await view.attachToCanvas(canvas);
  }

  async function show(name) {
    asked = name;
    root.dataset.state = "loading";
    say(`${name}: loading …`);
    try {
      await (start.done ??= start());
      const next = JSON.parse(packed.get(name).textContent);
      const images = [];
      for (const layer of next.layers)
        images.push(await niivue.NVImage.loadFromBase64({ base64: layer.data, name: "layer.nii.gz", colormap: "gray" }));
      if (asked !== name) return; // another was chosen meanwhile
      scene = next;
      scene.layers.forEach((layer, number) => { layer.image = images[number]; layer.codes = images[number].img; });
      view.volumes = [];
      images.forEach((image) => view.addVolume(image));
      layOut();
      find(".look-scene").value = name;
      shadeGreys();
      draw();
      choosePlane(plane ?? "all");
      moveTo([...scene.focus].reverse());
      say("");
      root.dataset.scene = name;
      root.dataset.state = "ready";
    } catch (error) {
      root.dataset.state = "failed";
      say(`The slices cannot be shown: ${error.message}. The pictures show the same scans.`);
    }
  }

  const say = (text) => { find(".look-message").textContent = text; };

  // Geometry: voxels are [x, y, z], places mm to the right, to the front and up, as in NIfTI

  const column = (axis) => [0, 1, 2].map((row) => scene.affine[row][axis]);
  const spaceAxis = (axis) => {
    const sizes = column(axis).map(Math.abs);
    return sizes.indexOf(Math.max(...sizes));
  };
  const sides = () => [...scene.shape].reverse();
  const placeOf = ([x, y, z]) => scene.affine.slice(0, 3).map((row) => row[0] * x + row[1] * y + row[2] * z + row[3]);
  const voxelOf = (mm) => [0, 1, 2].map((axis) => {
    const along = column(axis);
    const square = along.reduce((sum, part) => sum + part * part, 0);
    const way = along.reduce((sum, part, row) => sum + part * (mm[row] - scene.affine[row][3]), 0);
    return Math.min(sides()[axis] - 1, Math.max(0, Math.round(way / square)));
  });

  function moveTo(next) {
    view.scene.crosshairPos = view.mm2frac(placeOf(next));
    view.drawScene();
    tell(next);
  }

  function step(by) {
    const wanted = plane === "all" ? "axial" : plane;
    const axis = [0, 1, 2].find((each) => PLANES[spaceAxis(each)] === wanted);
    const up = Math.sign(column(axis)[spaceAxis(axis)]);
    const next = [...voxel];
    next[axis] = Math.min(sides()[axis] - 1, Math.max(0, next[axis] + by * up));
    moveTo(next);
  }

  // What is where

  // Three digits; what is nothing beside the grey scale is 0.
  const shown = (value) => {
    const [low, high] = scene.window;
    return Math.abs(value) < (high - low) / 1000 ? "0" : Number(value.toPrecision(3)).toString();
  };

  function valueAt(layer, [x, y, z]) {
    const [nx, ny] = sides();
    const code = layer.codes[(z * ny + y) * nx + x];
    if (layer.areas) return code === OUTSIDE ? "–" : layer.areas[code - 1].name;
    if (code === OUTSIDE) return "–";
    const value = layer.first + (code - 1) * layer.step;
    const [least, most] = layer.range;
    if (code === 1 && least < value - layer.step) return `≤ ${shown(value)}`;
    if (code === 255 && most > value + layer.step) return `≥ ${shown(value)}`;
    return shown(value);
  }

  function tell(next) {
    voxel = next;
    const corner = [...scene.corner].reverse();
    const place = scene.in_scan
      ? `x, y, z = ${placeOf(voxel).map((mm) => mm.toFixed(1)).join(", ")} mm (RAS)`
      : `voxel [z, y, x] = [${[...voxel].map((n, axis) => n + corner[axis]).reverse().join(", ")}]`;
    const values = scene.layers.map((layer) => `${layer.title} ${valueAt(layer, voxel)}`);
    find(".look-place").textContent = `${place}: ${values.join(" · ")}`;
    for (const axis of [0, 1, 2]) {
      const slider = find(`[data-axis="${axis}"]`);
      slider.value = voxel[axis];
      const count = scene.in_scan ? `${voxel[axis] + 1} of ${sides()[axis]}` : `${"xyz"[axis]} ${voxel[axis] + corner[axis]}`;
      slider.setAttribute("aria-valuetext", count);
      slider.nextElementSibling.textContent = count;
    }
  }

  // Layers

  function draw() {
    for (const layer of scene.layers) layer.image.opacity = layer.shown ? Math.max(layer.opacity, 0.004) : 0;
    view.opts.atlasOutline = scene.layers.some((layer) => layer.areas && layer.shown) ? 1 : 0;
    view.updateGLVolume();
  }

  // A colour map over the 256 codes; code 0 lets the layer below be seen, whatever the grey scale is.
  function shadeGreys() {
    const [low, high] = scene.window;
    const codes = [...Array(256).keys()];
    scene.layers.forEach((layer, number) => {
      if (layer.areas) {
        const of = (from) => [0, ...layer.areas.map(({ colour }) => parseInt(colour.slice(from, from + 2), 16))];
        layer.image.setColormapLabel({ R: of(1), G: of(3), B: of(5), labels: ["", ...layer.areas.map(({ name }) => name)] });
        return;
      }
      const grey = codes.map((code) => {
        const share = (layer.first + (code - 1) * layer.step - low) / Math.max(high - low, 1e-9);
        return code === OUTSIDE ? 0 : Math.round(255 * Math.min(1, Math.max(0, share)));
      });
      const alpha = codes.map((code) => (code === OUTSIDE && number > 0 ? 0 : 255));
      view.addColormap(`look${number}`, { R: grey, G: grey, B: grey, A: alpha, I: codes });
      layer.image.colormap = `look${number}`;
      Object.assign(layer.image, { cal_min: 0, cal_max: 255 });
    });
    find(".look-low").value = shown(low);
    find(".look-high").value = shown(high);
  }

  function layOut() {
    find(".look-layers").replaceChildren(...scene.layers.flatMap((layer, number) => {
      const box = make("input", { type: "checkbox", checked: layer.shown, id: `look-layer-${number}` });
      const slider = make("input", { type: "range", min: 0, max: 100, step: 1, value: Math.round(layer.opacity * 100) });
      const percent = make("output", { textContent: `${slider.value} %` });
      slider.setAttribute("aria-label", `opacity of ${layer.title}`);
      box.addEventListener("change", () => { layer.shown = box.checked; draw(); });
      slider.addEventListener("input", () => {
        layer.opacity = slider.value / 100;
        percent.textContent = `${slider.value} %`;
        draw();
      });
      const row = make("div", { className: "look-row" }, make("label", {}, box, make("span", { textContent: layer.title })), slider, percent);
      return [row, layer.areas ? key(layer.areas) : make("p", { className: "look-range", textContent: `${shown(layer.range[0])} to ${shown(layer.range[1])}` })];
    }));
    find(".look-slices").replaceChildren(...[2, 1, 0].map((axis) => {
      const name = PLANES[spaceAxis(axis)];
      const slider = make("input", { type: "range", min: 0, max: sides()[axis] - 1, step: 1 });
      slider.dataset.axis = axis;
      slider.dataset.plane = name;
      slider.setAttribute("aria-label", `${name} slice`);
      slider.addEventListener("input", () => moveTo(voxel.map((n, each) => (each === axis ? Number(slider.value) : n))));
      return make("div", { className: "look-row" }, make("span", { textContent: name }), slider, make("output"));
    }));
    find(".look-unit").textContent = `Intensities are in ${scene.unit}.`;
    find(".look-said").textContent = scene.said;
    scene.first = [...scene.window];
  }

  function key(areas) {
    return make("p", { className: "look-key" }, ...areas.map(({ name, colour, ml }) => {
      const patch = make("i");
      patch.style.background = colour;
      return make("span", {}, patch, `${name}, ${ml < 0.1 ? Number(ml.toPrecision(2)) : ml.toFixed(1)} ml`);
    }));
  }

  function choosePlane(name) {
    plane = name;
    view.setSliceType({ axial: 0, coronal: 1, sagittal: 2, all: 3 }[name]);
    for (const button of root.querySelectorAll("[data-plane][aria-pressed]"))
      button.setAttribute("aria-pressed", button.dataset.plane === name);
  }

  // What a person does

  function rewindow() {
    const [low, high] = [find(".look-low").valueAsNumber, find(".look-high").valueAsNumber];
    if (!(high > low)) return;
    scene.window = [low, high];
    shadeGreys();
    draw();
  }

  find(".look-scene").addEventListener("change", (event) => show(event.target.value));
  find(".look-low").addEventListener("change", rewindow);
  find(".look-high").addEventListener("change", rewindow);
  find(".look-reset").addEventListener("click", () => {
    scene.window = [...scene.first];
    shadeGreys();
    draw();
  });
  for (const button of root.querySelectorAll("[data-plane][aria-pressed]"))
    button.addEventListener("click", () => scene && choosePlane(button.dataset.plane));

  const KEYS = {
    ArrowUp: () => step(1), ArrowDown: () => step(-1), PageUp: () => step(10), PageDown: () => step(-10),
    a: () => choosePlane("axial"), c: () => choosePlane("coronal"), s: () => choosePlane("sagittal"), t: () => choosePlane("all"),
  };
  find(".look-stage").addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !scene) return;
    const box = find(`#look-layer-${Number(event.key) - 1}`);
    const act = box ? () => box.click() : KEYS[event.key] ?? KEYS[event.key.toLowerCase()];
    event.stopPropagation(); // NiiVue has keys of its own, which nobody is told of here
    if (!act) return;
    event.preventDefault();
    act();
  }, true);

  document.addEventListener("click", (event) => {
    const name = event.target.closest?.("[data-scene]")?.dataset.scene;
    if (name && packed.has(name) && !root.contains(event.target)) show(name);
  });

  // Nothing is unpacked before it is about to be seen.
  say("");
  new IntersectionObserver((entries, watch) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    if (!asked) show(packed.keys().next().value);
  }, { rootMargin: "300px" }).observe(root);
})();
