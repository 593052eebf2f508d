# longer_model MODEL POSITIONS FOLDER: the model, in a folder of its own, with room for so many positions (of a Llama, whose
# positions are rotations). Beyond its own it predicts badly, but what its layers hold is still a model's.
longer_model() {
  mkdir -p "$3"
  ln -sf "$(realpath "$1")"/* "$3"/
  rm "$3"/config.json
  sed "s/\(\"max_position_embeddings\": *\)[0-9]*/\1$2/" "$1"/config.json >"$3"/config.json
}
