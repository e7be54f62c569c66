// What a person does in VS Code, one scenario after the other on one kernel.
//
//   node scenarios.js URL TOKEN KERNEL NOTEBOOK
//
// prints one JSON object: scenario → what the client got, or `{"failed": why}`.
"use strict";

console = new console.Console(process.stderr); // what the library has to say is no result

const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { BACKGROUND, HIDDEN, finish, open, run, send, until, within } = require("./client.js");

const code = (name) => readFileSync(join(__dirname, "code", `${name}.ipy`), "utf8");

const scenarios = {
  async startUp({ kernel }) {
    const info = await within(kernel.info);
    const probes = [];
    for (const part of code("start_up").split("# ---\n")) {
      probes.push((await run(kernel, part, HIDDEN)).reply.status);
    }
    const asked = await within(kernel.requestComplete({ code: "__file__.", cursor_pos: 9 }));
    return { info, probes, completion: asked.content.status };
  },

  async cells({ kernel }) {
    const results = [];
    for (const cell of code("cells").split("# ---\n")) {
      results.push(await run(kernel, cell));
    }
    return results;
  },

  async queue({ kernel }) {
    const cells = ["1 / 0", "print('runs')", "'runs too'"].map((cell) => send(kernel, cell));
    return Promise.all(cells.map(finish));
  },

  async completion({ kernel }) {
    await run(kernel, "remarkable_name = 'found'");
    const sent = send(kernel, code("completion"), BACKGROUND);
    await finish(sent);
    const { data } = await until(sent, "update_display_data");
    return data["application/json"];
  },

  async completionWhileBusy({ kernel }) {
    const busy = send(kernel, "import time; print('on', flush=True); time.sleep(1)");
    await until(busy, "stream");
    const asked = kernel.requestComplete({ code: "remarkable_", cursor_pos: 11 });
    await finish(busy);
    const { matches, cursor_start, cursor_end } = (await within(asked)).content;
    return { matches, cursor_start, cursor_end };
  },

  async variables({ kernel }) {
    await run(kernel, "number, text = 42, 'long ' * 50");
    const view = await run(kernel, code("variables"), HIDDEN);
    const shown = {};
    for (const name of ["number", "text"]) {
      const question = { code: name, cursor_pos: name.length, detail_level: 0 };
      shown[name] = (await within(kernel.requestInspect(question))).content;
    }
    const after = await run(kernel, "'counted'");
    return { view, shown, count: after.reply.execution_count, before: view.reply.execution_count };
  },

  async interrupt({ kernel }) {
    const cell = send(kernel, "import time\nprint('on', flush=True)\ntime.sleep(60)");
    await until(cell, "stream");
    const began = Date.now();
    await within(kernel.interrupt());
    const interrupted = await finish(cell);
    return { interrupted, after: await run(kernel, "'runs'"), took: Date.now() - began };
  },

  async input({ kernel }) {
    const cell = send(kernel, "input('Name? '), __import__('getpass').getpass('Secret? ')");
    const asked = [];
    cell.future.onStdin = ({ header, content }) => {
      asked.push(content);
      cell.future.sendInputReply({ status: "ok", value: `answer ${asked.length}` }, header);
    };
    return { ...(await finish(cell)), asked };
  },

  async widget({ kernel }) {
    const opened = [];
    kernel.registerCommTarget("jupyter.widget", (comm, { content }) => {
      opened.push({ comm, state: content.data.state });
    });
    const view = await run(kernel, code("widget"));
    const slider = opened.find(({ state }) => state._model_name === "IntSliderModel").comm;
    const moved = [];
    const future = slider.send({ method: "update", state: { value: 7 }, buffer_paths: [] });
    future.onIOPub = ({ header, content }) => moved.push({ type: header.msg_type, content });
    await within(future.done);
    return { view, moved, value: await run(kernel, "slider.value") };
  },

  async twoClients({ kernel, kernelManager }) {
    const other = kernelManager.connectTo({ model: kernel.model, handleComms: false });
    const seen = [];
    await within(other.info);
    other.iopubMessage.connect((_, { header, content }) => {
      if (header.msg_type === "stream") seen.push(content.text);
    });
    await run(kernel, "shared = 'by one'; print('of one')");
    const cell = await run(other, "print('of other'); shared");
    other.dispose();
    return { seen: seen.join(""), cell }; // how text is cut is a matter of time
  },

  async restart({ kernel }) {
    await run(kernel, "open('kept.txt', 'w').write('kept'); gone = 1");
    await within(kernel.restart());
    const startUp = await scenarios.startUp({ kernel });
    const cell = await run(kernel, "open('kept.txt').read(), 'gone' in globals()");
    return { probes: startUp.probes, cell };
  },
};

async function main([url, token, name, path]) {
  const client = await open(url, token, name, path);
  const results = {};
  for (const [scenario, play] of Object.entries(scenarios)) {
    results[scenario] = await play(client).catch((error) => ({ failed: String(error.stack) }));
  }
  await client.session.shutdown();
  process.stdout.write(JSON.stringify(results), () => process.exit(0));
}

main(process.argv.slice(2));
