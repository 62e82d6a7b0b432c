/** The webhook messages sent to the user, each with its outcome. */
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get, send, wordsOf } from "../client/rest";
import { shortTime } from "../parts/format";
import { nowMs } from "../state/now";

interface Delivery {
  id: string;
  symbol: string;
  rule_type: string;
  status: "pending" | "delivered" | "dead";
  attempts: number;
  next_attempt_at: string | null;
  response_status: number | null;
  error: string | null;
  created_at: string;
}

const EVERY_MS = 5000;
const MOST = 50;
const LOOKS = { pending: "warn", delivered: "up", dead: "bad" } as const;

const found = signal<readonly Delivery[] | null>(null);
const fault = signal<string | null>(null);

export async function readDeliveries(): Promise<void> {
  try {
    found.value = (await get<{ deliveries: Delivery[] }>("api/webhook/deliveries", { limit: MOST })).deliveries;
    fault.value = null;
  } catch (error) {
    fault.value = wordsOf(error);
  }
}

async function again(id: string): Promise<void> {
  try {
    await send("POST", `api/webhook/deliveries/${id}`);
    await readDeliveries();
  } catch (error) {
    fault.value = wordsOf(error);
  }
}

export function Deliveries() {
  useEffect(() => {
    void readDeliveries();
    const timer = setInterval(() => document.hidden || void readDeliveries(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  return (
    <>
      {fault.value !== null && (
        <p class="bad" role="alert">
          {fault.value}
        </p>
      )}
      {found.value?.length === 0 && <p class="faint">Nothing was sent yet.</p>}
      {found.value !== null && found.value.length > 0 && (
        <div class="wide-table" tabIndex={0} role="region" aria-label="Table of deliveries">
          <table class="plain">
            <thead>
              <tr>
                {["Since", "Alert", "State", "Attempts", "Answer", ""].map((title) => (
                  <th scope="col" key={title}>
                    {title || <span class="unseen">Actions</span>}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {found.value.map((one) => (
                <tr key={one.id}>
                  <td>{shortTime(one.created_at, nowMs.value)}</td>
                  <td>
                    {one.symbol} {one.rule_type}
                  </td>
                  <td class={LOOKS[one.status]}>
                    {one.status}
                    {one.status === "pending" && one.next_attempt_at !== null && ` until ${shortTime(one.next_attempt_at, nowMs.value)}`}
                  </td>
                  <td>{one.attempts}</td>
                  <td>{[one.response_status, one.error].filter((part) => part !== null).join(" ")}</td>
                  <td>{one.status !== "pending" && <button onClick={() => void again(one.id)}>Send again</button>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}
