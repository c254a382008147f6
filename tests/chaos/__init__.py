"""Whole systems whose processes are killed, stopped and damaged. (A package: `site` lasts as long as it.)"""
