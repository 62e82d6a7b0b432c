/** The settings of the signed-in user, as the sidecar stores them. */
import { useEffect, useState } from "preact/hooks";
import { get, send, wordsOf } from "../client/rest";
import { readSelections } from "../state/mine";

export interface Subscription {
  rule_type: string;
  symbol: string;
}

export interface UserSettings {
  user_id: string;
  selected_alerts: string[];
  webhook_url: string | null;
  notification_enabled: boolean;
  subscriptions: Subscription[];
  webhook: { format: string; secret: string; enabled: boolean; disabled_reason: string | null; failures: number; last_success: string | null } | null;
}

export type SettingsChange = Partial<Pick<UserSettings, "selected_alerts" | "webhook_url" | "notification_enabled" | "subscriptions">>;

export interface SettingsState {
  /** Null before the first answer. */
  known: UserSettings | null;
  fault: string | null;
  /** Returns whether the change is stored; `fault` says why not. */
  change(change: SettingsChange): Promise<boolean>;
}

/** Store the change and read the selections again: they decide which alerts the page marks as the user's. */
async function changed(change: SettingsChange): Promise<UserSettings | null> {
  const found = await send<UserSettings>("POST", "api/settings", change);
  void readSelections();
  return found;
}

export function useSettings(): SettingsState {
  const [known, setKnown] = useState<UserSettings | null>(null);
  const [fault, setFault] = useState<string | null>(null);

  async function follow(work: Promise<UserSettings | null>): Promise<boolean> {
    try {
      setKnown(await work);
      setFault(null);
      return true;
    } catch (error) {
      setFault(wordsOf(error));
      return false;
    }
  }
  useEffect(() => void follow(get<UserSettings>("api/settings")), []);
  return { known, fault, change: (change) => follow(changed(change)) };
}
