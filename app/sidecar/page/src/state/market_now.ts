/** The market values for the visible columns, over the page's live connection. */
import { live } from "../client/live";
import { Market } from "./market";

export const market = new Market(live);
market.rest();
