"""The BabyAI bot: a planner that solves levels in minigrid's own grid."""
