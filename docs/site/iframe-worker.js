// Search runs in a worker, and browsers start none from a folder (file://). There a hidden frame does its work, so that
// the site can be searched where no server is and nothing may be fetched. Elsewhere this does nothing.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.ready = new Promise((ready) => {
        this.frame.addEventListener("load", () => ready(this.started(url)), { once: true })
      })
      document.body.append(this.frame)
    }

    started(url) {
      const inside = this.frame.contentWindow
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = inside.document.createElement("script")
      script.src = new URL(url, location.href).href
      return new Promise((loaded) => {
        script.addEventListener("load", () => loaded(inside))
        inside.document.body.append(script)
      })
    }

    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
