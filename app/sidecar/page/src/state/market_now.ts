/** The market as the columns in sight see it, over the page's one connection. */
import { live } from "../client/live";
import { Market } from "./market";

export const market = new Market(live);
market.rest();
