"""Reads of the stored candles: minutes, and the longer bars beside them.

bar_tables.py    the tables of longer bars
minutes.py       minutes of many symbols, and the reads of a feed and a calculator at their start
stored_bars.py   whole bars of many symbols, for a calculator's long indicators
klines.py        bars of any interval of one symbol, made by kline_rows.py
"""
