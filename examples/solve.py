"""SRM: solve a Sudoku of handwritten digits cell by cell, the most certain one first, and compare with all cells at once."""

from pathlib import Path

import becalm

PUZZLES = Path(__file__).parent / "puzzles"


def main(steps_per_variable: int = 12) -> None:
    """Solve the 4 × 4 puzzle in two orders; print the digits, and when and how certainly each cell was started."""
    for walk in ("certainty", "together"):
        result = becalm.solve(
            PUZZLES / "sudoku4.png",
            PUZZLES / "sudoku4.mask.png",
            walk=walk,
            steps_per_variable=steps_per_variable,
        )
        print(f"walk {walk}: {'valid' if result.valid else f'cells in conflict: {result.conflicts}'}")
        print(result.digits)
        if walk == "certainty":
            print("order of the cells, 0 for those that are given:")
            print(result.order)
            result.save("solved.png")


if __name__ == "__main__":
    main()
