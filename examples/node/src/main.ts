// Streams one answer, cancels one in mid-stream, and reads a typed refusal.
//
//   FAIRLEAD_ADDRESS=127.0.0.1:7600 FAIRLEAD_KEY=... npm start
import { randomUUID } from "node:crypto";
import { stdout } from "node:process";
import type { GenerateRequest } from "../generated/fairlead/v1/GenerateRequest.js";
import type { SamplingParams } from "../generated/fairlead/v1/SamplingParams.js";
import { connect, events, fail, isServiceError, problemOf, withKey } from "./fairlead.js";

const client = connect(process.env.FAIRLEAD_ADDRESS ?? "127.0.0.1:7600");
const metadata = withKey(process.env.FAIRLEAD_KEY ?? "");

function question(text: string, sampling: SamplingParams): GenerateRequest & { requestId: string } {
  // The same id with the same content attaches to the first, so a retry is safe.
  return { requestId: randomUUID(), text, serviceClass: "SERVICE_CLASS_LATENCY_SENSITIVE", sampling };
}

const deadline = (seconds: number) => ({ deadline: Date.now() + seconds * 1000 });

// Starts a request; its deadline is the call's.
const ask = (request: GenerateRequest) => events(client.generate(request, metadata, deadline(60)));

async function stream(): Promise<void> {
  console.log("== stream");
  for await (const event of ask(question("Count from 1 to 20.", { maxTokens: 40 }))) {
    if (event.accepted) {
      console.log(`accepted: tenant ${event.accepted.tenant}, model ${event.accepted.model}`);
    } else if (event.delta) {
      stdout.write(event.delta.text);
    } else if (event.finished) {
      console.log(`\nfinished: ${event.finished.outcome}, ${event.finished.usage?.outputTokens} tokens`);
    }
  }
}

async function cancel(): Promise<void> {
  console.log("== cancel");
  const request = question("Tell me a long story.", { maxTokens: 2000, minTokens: 2000, ignoreEos: true });
  let tokens = 0;
  for await (const event of ask(request)) {
    if (event.delta) {
      if (tokens === 0) {
        // `call.cancel()` would end the request too, but say nothing more; Cancel lets the last event come.
        client.cancel({ requestId: request.requestId }, metadata, deadline(10), (error) => error && fail(error));
      }
      tokens += event.delta.tokenCount;
    } else if (event.finished) {
      console.log(`finished: ${event.finished.outcome} after ${tokens < 2000 ? "some" : "all"} of 2000 tokens`);
    }
  }
}

async function refused(): Promise<void> {
  console.log("== refused");
  try {
    for await (const _ of ask(question("Hello.", { temperature: -1 })));
  } catch (error) {
    if (!isServiceError(error)) throw error;
    const problem = problemOf(error);
    console.log(`refused: ${problem.code} ${problem.reason}: ${problem.message}`);
    for (const [field, what] of Object.entries(problem.fields)) console.log(`field: ${field} ${what}`);
    return;
  }
  throw new Error("a temperature of -1 was accepted");
}

try {
  await stream();
  await cancel();
  await refused();
} catch (error) {
  fail(error);
} finally {
  client.close();
}
