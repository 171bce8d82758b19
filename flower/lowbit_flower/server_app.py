"""The server: averages updates, measures the packed model, writes what `lowbit analyze` reads."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from lowbit.flower import serve

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    serve(grid, context)
