from nearlight.v1 import embedding_pb2, input_pb2


def test_smoke(stubs, images):
    r = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(image=images[0]), input_pb2.Input(text="a dog")]))
    print(r)
    assert not r.errors
