// A client that sends what VS Code sends to a kernel, through the library that VS Code uses.
"use strict";

const { KernelManager, ServerConnection, SessionManager } = require("@jupyterlab/services");
const WebSocket = require("ws");

// Milliseconds after which something that should happen has not happened.
const DEADLINE = 60000;

// A person's cell: counted, with an id, and the cells behind it run whatever becomes of it.
const CELL = { silent: false, store_history: true, allow_stdin: true, stop_on_error: false };
const HIDDEN = { ...CELL, store_history: false };
const BACKGROUND = { ...HIDDEN, allow_stdin: false };

/** Start a kernel for a notebook on a server; return what ends it too. */
async function open(baseUrl, token, name, path) {
  const serverSettings = ServerConnection.makeSettings({
    baseUrl,
    token,
    wsUrl: baseUrl.replace("http", "ws"),
    appendToken: true,
    WebSocket,
  });
  const kernelManager = new KernelManager({ serverSettings, standby: "never" });
  const sessions = new SessionManager({ kernelManager, serverSettings, standby: "never" });
  const session = await sessions.startNew(
    { path, name: path, type: "notebook", kernel: { name } },
    { kernelConnectionOptions: { handleComms: true } },
  );
  return { session, sessions, kernelManager, kernel: session.kernel };
}

/** Send code and collect all that comes of it, also after its end. */
function send(kernel, code, options = CELL) {
  const metadata = options === CELL ? { cellId: `vscode-notebook-cell:/${code.length}` } : {};
  const future = kernel.requestExecute({ code, ...options }, false, metadata);
  const sent = { future, iopub: [], reply: null, heard: new EventTarget() };
  future.onIOPub = ({ header, content }) => {
    sent.iopub.push({ type: header.msg_type, content });
    sent.heard.dispatchEvent(new Event(header.msg_type));
  };
  return sent;
}

/** Wait for the end of what was sent; return its reply and what was published. */
async function finish(sent) {
  sent.reply = (await within(sent.future.done)).content;
  return { reply: sent.reply, iopub: sent.iopub };
}

/** Run code as a person's cell, or hidden. */
const run = (kernel, code, options = CELL) => finish(send(kernel, code, options));

/** Wait for a message of a type, unless it has come already. */
async function until(sent, type) {
  if (!sent.iopub.some((message) => message.type === type)) {
    await within(new Promise((resolve) => sent.heard.addEventListener(type, resolve)));
  }
  return sent.iopub.find((message) => message.type === type).content;
}

/** Fail when something does not happen in time. */
function within(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${DEADLINE / 1000} s`)), DEADLINE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

module.exports = { BACKGROUND, HIDDEN, finish, open, run, send, until, within };
