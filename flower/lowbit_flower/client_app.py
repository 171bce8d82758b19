"""A client: trains on its own images."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from lowbit.flower import answer, hello

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    return hello(message, context)


@app.train()
def train(message: Message, context: Context) -> Message:
    return answer(message, context)
