/** A table of any length: only the visible rows are rendered. It is one tab stop; the arrow keys move within it. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";

export interface Column<Row> {
  id: string;
  title: string;
  hint?: string;
  /** In rem; the first column also takes the remaining space. */
  width: number;
  numeric?: boolean;
  sortable?: boolean;
  cell(row: Row): ComponentChildren;
  /** Returns the class names of the cell. */
  look?(row: Row): string;
}

export interface Order {
  column: string;
  descending: boolean;
}

interface GridProps<Row> {
  label: string;
  rows: readonly Row[];
  keyOf(row: Row): string;
  columns: readonly Column<Row>[];
  order?: Order;
  onSort?(column: string): void;
  onOpen?(row: Row): void;
  /** Returns whether the key did something to the row. */
  onKey?(row: Row, key: string): boolean;
  /** Called when the pointer enters or leaves the rows. */
  onPointing?(inside: boolean): void;
  /** Called when the end of the rows comes near. */
  onEnd?(): void;
  lookOf?(row: Row): string;
  empty: ComponentChildren;
}

const coarse = matchMedia("(pointer: coarse)");
const OVERSCAN = 6;
const NEAR_THE_END_PX = 300;
const rowHeightPx = (): number => (coarse.matches ? 44 : 30);

/** Where the keyboard is: at the head of the column with this index, or at the row with this key. */
type Active = { head: number } | { row: string } | null;

export function Grid<Row>(props: GridProps<Row>) {
  const { label, rows, keyOf, columns, order, lookOf } = props;
  const scroller = useRef<HTMLDivElement>(null);
  const id = useId();
  const [top, setTop] = useState(0);
  const [height, setHeight] = useState(600);
  const [active, setActive] = useState<Active>(null);
  const rowPx = rowHeightPx();

  useLayoutEffect(() => {
    const element = scroller.current;
    if (element === null) return;
    const observer = new ResizeObserver(() => setHeight(element.clientHeight));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  const first = Math.max(0, Math.floor(top / rowPx) - OVERSCAN);
  const last = Math.min(rows.length, Math.ceil((top + height) / rowPx) + OVERSCAN);
  const activeIndex = active !== null && "row" in active ? rows.findIndex((row) => keyOf(row) === active.row) : -1;
  const tracks = columns.map((column, i) => (i === 0 ? `minmax(${column.width}rem, 1fr)` : `${column.width}rem`)).join(" ");

  const width = columns.reduce((sum, column) => sum + column.width, 0);

  function reveal(index: number): void {
    const element = scroller.current;
    if (element === null) return;
    // the sticky head covers one row's height
    const above = index * rowPx;
    const below = above + 2 * rowPx - element.clientHeight;
    if (element.scrollTop > above) element.scrollTop = above;
    else if (element.scrollTop < below) element.scrollTop = below;
  }

  function moveTo(index: number): void {
    const row = rows[Math.max(0, Math.min(rows.length - 1, index))];
    if (row === undefined) return;
    setActive({ row: keyOf(row) });
    reveal(rows.indexOf(row));
  }

  function moveInHead(at: number, key: string): boolean {
    const sortable = columns.map((column, i) => (column.sortable === true ? i : -1)).filter((i) => i >= 0);
    if (key === "ArrowDown") moveTo(0);
    else if (key === "Enter" || key === " ") props.onSort?.(columns[at]?.id ?? "");
    else if (key === "ArrowLeft") setActive({ head: sortable.filter((i) => i < at).at(-1) ?? at });
    else if (key === "ArrowRight") setActive({ head: sortable.find((i) => i > at) ?? at });
    else return false;
    return true;
  }

  function moveInRows(key: string): boolean {
    const page = Math.max(1, Math.floor(height / rowPx) - 2);
    const at = activeIndex;
    if (key === "ArrowDown") moveTo(at + 1);
    else if (key === "ArrowUp" && at <= 0 && order !== undefined) setActive({ head: columns.findIndex((column) => column.sortable) });
    else if (key === "ArrowUp") moveTo(at - 1);
    else if (key === "PageDown") moveTo(at + page);
    else if (key === "PageUp") moveTo(at - page);
    else if (key === "Home") moveTo(0);
    else if (key === "End") moveTo(rows.length - 1);
    else return onRow(key);
    return true;
  }

  function onRow(key: string): boolean {
    const row = rows[activeIndex];
    if (row === undefined) return false;
    if (key === "Enter" && props.onOpen !== undefined) {
      props.onOpen(row);
      return true;
    }
    return props.onKey?.(row, key) ?? false;
  }

  function pressed(event: KeyboardEvent): void {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== scroller.current) return;
    const done = active !== null && "head" in active ? moveInHead(active.head, event.key) : moveInRows(event.key);
    if (done) {
      event.preventDefault();
      event.stopPropagation();
    }
  }

  // the keyboard cannot stay on a row that left the table
  useEffect(() => {
    if (active !== null && "row" in active && activeIndex < 0) setActive(null);
  }, [activeIndex, rows]);

  const pointed = active === null ? undefined : "head" in active ? `${id}-h${active.head}` : `${id}-r${activeIndex}`;
  return (
    <div
      ref={scroller}
      class="grid"
      role="grid"
      tabIndex={0}
      aria-label={label}
      aria-rowcount={rows.length + 1}
      aria-colcount={columns.length}
      aria-activedescendant={pointed}
      style={{ "--tracks": tracks, "--width": `${width}rem`, "--row": `${rowPx}px` }}
      onScroll={(event) => {
        const { scrollTop, clientHeight, scrollHeight } = event.currentTarget;
        setTop(scrollTop);
        if (scrollTop + clientHeight > scrollHeight - NEAR_THE_END_PX) props.onEnd?.();
      }}
      onKeyDown={pressed}
    >
      <div role="rowgroup" class="grid-head">
        <div role="row" aria-rowindex={1} class="grid-row">
          {columns.map((column, i) => {
            const sorted = order?.column === column.id ? (order.descending ? "descending" : "ascending") : "none";
            return (
              <div
                key={column.id}
                id={`${id}-h${i}`}
                role="columnheader"
                aria-sort={column.sortable === true ? sorted : undefined}
                title={column.hint}
                class={`${column.numeric === true ? "number" : ""} ${column.sortable === true ? "sortable" : ""} ${active !== null && "head" in active && active.head === i ? "active" : ""}`}
                onClick={() => column.sortable === true && props.onSort?.(column.id)}
              >
                {sorted !== "none" && <span aria-hidden="true">{sorted === "descending" ? "↓ " : "↑ "}</span>}
                {column.title}
              </div>
            );
          })}
        </div>
      </div>
      <div
        role="rowgroup"
        class="grid-rows"
        style={{ height: `${rows.length * rowPx}px` }}
        onPointerEnter={() => props.onPointing?.(true)}
        onPointerLeave={() => props.onPointing?.(false)}
      >
        {rows.slice(first, last).map((row, offset) => {
          const index = first + offset;
          return (
            <div
              key={keyOf(row)}
              id={`${id}-r${index}`}
              role="row"
              aria-rowindex={index + 2}
              aria-selected={index === activeIndex}
              class={`grid-row ${index === activeIndex ? "active" : ""} ${lookOf?.(row) ?? ""}`}
              style={{ transform: `translateY(${index * rowPx}px)` }}
              onClick={() => {
                setActive({ row: keyOf(row) });
                props.onOpen?.(row);
              }}
            >
              {columns.map((column) => (
                <div key={column.id} role="gridcell" class={`${column.numeric === true ? "number" : ""} ${column.look?.(row) ?? ""}`}>
                  {column.cell(row)}
                </div>
              ))}
            </div>
          );
        })}
      </div>
      {rows.length === 0 && <p class="empty">{props.empty}</p>}
    </div>
  );
}
