"""Prompts about many different things: what text queries score where something else is meant."""

_THINGS = """
a dog; a cat; a horse; a bird; a fish; a cow; a sheep; a wild animal; an insect; a man; a woman
a child; a baby; a group of people; a crowd; a portrait of a face; people at a table; a wedding
a sports match; a person running; a person on a bicycle; a swimmer; a climber; a musician on a stage
a car; a truck; a bus; a train; an airplane; a boat; a motorcycle; a street in a city
a tall building; a house; a bridge; a church; a room with furniture; a kitchen; a bed
a desk with a computer; a book; a page of text; a sign with writing; a map; a diagram; a screenshot
a logo; a painting; a drawing; a cartoon; a toy; a statue; a plate of food; a cake
fruit and vegetables; a cup of coffee; a bottle; a flower; a tree; a forest; a field of grass
a mountain; a beach; the sea; a river; snow; a desert; clouds in the sky; a sunset; the night sky
a fire; rain; a close-up of a texture; an abstract pattern; a black and white photo; a blurry photo
a dark photo; an aerial view; clothes; shoes; a ball; a musical instrument; a clock; a phone; a tool
a machine; a medical scan; a weapon; a flag; a playground; a swimming pool; a garden; a park; a shop
a market; a staircase; a window; a door; a mirror
"""

THINGS = tuple(thing.strip() for thing in _THINGS.replace("\n", ";").split(";") if thing.strip())

_SENTENCES = """
A woman in a red coat waits for the bus in the rain.
Two men are repairing a bicycle in front of a shop.
A small boat lies on the sand at low tide.
Children are drawing with chalk on the pavement.
A chef slices vegetables on a wooden board.
An old man reads the newspaper on a bench in the park.
A brown dog is sleeping on a sofa next to a cushion.
A cat looks out of the window at the birds in the garden.
People are dancing at a party with coloured lights.
A girl in a yellow dress blows out the candles on her cake.
A train crosses a high stone bridge between two mountains.
Cars are standing in heavy traffic on a wide road at night.
A player in a blue shirt kicks the ball towards the goal.
A skier jumps over a small hill of snow.
A surfer rides a large wave close to the rocks.
A group of friends is sitting around a fire on the beach.
A horse with a white face is grazing behind a fence.
Cows are walking along a country road in the morning.
A bee sits on a purple flower in the sun.
A heron stands in shallow water and waits for fish.
A bowl of soup and a piece of bread on a table.
A cup of coffee with milk stands beside an open laptop.
A stack of pancakes with berries on a white plate.
A vase with dried flowers stands on a shelf.
A bedroom with a large bed, two lamps and a blue carpet.
A kitchen with white cupboards and a window over the sink.
An empty classroom with chairs on the tables.
A doctor is talking to a patient in a hospital room.
A man in a suit gives a talk in front of a screen.
A band is playing on a stage and the crowd has its hands up.
A baby in a striped shirt is crawling on the floor.
A couple walks hand in hand along the river.
A cyclist with a helmet rides down a steep path in the forest.
A climber hangs on a rope over a grey cliff.
A boy jumps into the swimming pool with his knees up.
Workers in orange vests are digging a hole in the street.
A street market with boxes of oranges and apples.
A church with a tall tower stands behind bare trees.
Tall buildings are reflected in the water of the harbour.
The roofs of an old town seen from above.
An airplane is landing on a wet runway.
A red tractor pulls a trailer across a field.
Snow covers the roofs and the trees of a village.
A desert road runs straight to the mountains.
Dark clouds over the sea before a storm.
The sun sets behind a row of palm trees.
A waterfall drops into a green pool between rocks.
A page from an old book with a drawing of a plant.
A hand holds a phone that shows a map.
A receipt from a shop lies on a table.
A sign on a door says that the shop is closed.
A screenshot of a chart with three coloured lines.
A wooden toy train stands on the carpet.
A pair of worn shoes lies in front of a door.
A violin and a bow in an open case.
A clock on the wall of a railway station.
A statue of a man on a horse in the middle of a square.
Graffiti in bright colours covers a long wall.
A woman takes a picture of herself in a mirror.
A crowd of runners passes under a banner.
Two dogs are playing with a stick in the snow.
A man throws a frisbee for his dog on a meadow.
A girl on a swing laughs at the camera.
Several people in winter clothes stand on a frozen lake.
"""

SENTENCES = tuple(_SENTENCES.strip().splitlines())

# As one types it, as zero-shot prompts say it, as captions tell it: short and long queries score differently.
PROMPTS = (*THINGS, *(f"a photo of {thing}" for thing in THINGS), *SENTENCES)
