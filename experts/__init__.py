"""Policies that play well: trained with Sample Factory, scripted, or planned by the BabyAI bot."""
