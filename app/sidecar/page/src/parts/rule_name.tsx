/** A colour for each rule, for its markers on the chart and its dot in lists. Neighbours by name have different colours. */
import { isDark } from "../state/preferences";
import { rules } from "../state/rules";

// distinct hues, each with a contrast of at least 3 to the card of its theme
const LIGHT = ["#1f5fc4", "#b42828", "#08703d", "#8a5200", "#7b2fbf", "#00718a", "#b0217f", "#5a6b00", "#3a4fb8", "#9c4221", "#00695c", "#6b4a9e"];
const DARK = ["#82b1ff", "#ff8080", "#3ecf8e", "#ffb95c", "#c99bff", "#4fd3ee", "#ff8fcf", "#c6d64a", "#9fa8ff", "#ff9e7a", "#5fd6c4", "#c3aef0"];

export function ruleColour(rule: string): string {
  const place = rules.value?.findIndex((one) => one.rule_type === rule) ?? -1;
  const colours = isDark() ? DARK : LIGHT;
  return colours[(place < 0 ? rule.length : place) % colours.length] ?? "currentColor";
}

export function RuleName({ rule }: { rule: string }) {
  return (
    <>
      <span class="rule-dot" style={{ background: ruleColour(rule) }} aria-hidden="true" />
      {rule}
    </>
  );
}
