# What Godot has of imported GLBs, as JSON: godot3-server --path PROJECT -s godot_reader.gd
# Reads times.json (seconds), writes NAME.json beside each NAME.glb. godot_reader.py moves the
# vertices with it as Godot's shaders do: without a window Godot moves none.
extends SceneTree

func _init():
	var times = parse_json(text_of("res://times.json"))
	for name in parse_json(text_of("res://names.json")):
		var scene = load("res://%s.glb" % name).instance()
		get_root().add_child(scene)
		var file = File.new()
		file.open("res://%s.json" % name, File.WRITE)
		file.store_string(to_json(seen(scene, times)))
		file.close()
	quit()

func text_of(path):
	var file = File.new()
	file.open(path, File.READ)
	return file.get_as_text()

func seen(scene, times):
	var subject = mesh_below(scene)
	var arrays = subject.mesh.surface_get_arrays(0)
	var player = scene.get_node("AnimationPlayer")
	player.play("motion")
	var frames = []
	for time in times:
		player.seek(time, true)
		frames.append(bones(subject) if subject.skin else weights(subject))
	return {
		"vertices": numbers(arrays[Mesh.ARRAY_VERTEX]),
		"uv": numbers(arrays[Mesh.ARRAY_TEX_UV]),
		"targets": targets(subject.mesh),
		"joints": Array(arrays[Mesh.ARRAY_BONES]) if subject.skin else [],
		"weights": Array(arrays[Mesh.ARRAY_WEIGHTS]) if subject.skin else [],
		"frames": frames,
		"animations": Array(player.get_animation_list()),
	}

func mesh_below(node):
	if node is MeshInstance:
		return node
	for child in node.get_children():
		var found = mesh_below(child)
		if found:
			return found
	return null

# how much each morph target is shown
func weights(subject):
	var found = []
	for k in range(subject.mesh.get_blend_shape_count()):
		found.append(subject.get("blend_shapes/" + subject.mesh.get_blend_shape_name(k)))
	return found

# the matrices of the skin's joints, each as its three columns and its origin
func bones(subject):
	var skeleton = subject.get_node(subject.skeleton)
	var found = []
	for k in range(subject.skin.get_bind_count()):
		var bone = subject.skin.get_bind_bone(k)
		if bone < 0:
			bone = skeleton.find_bone(subject.skin.get_bind_name(k))
		var place = skeleton.get_bone_global_pose(bone) * subject.skin.get_bind_pose(k)
		found.append(numbers([place.basis.x, place.basis.y, place.basis.z, place.origin]))
	return found

func targets(mesh):
	var found = []
	for shape in mesh.surface_get_blend_shape_arrays(0):
		found.append(numbers(shape[Mesh.ARRAY_VERTEX]))
	return found

func numbers(vectors):
	var found = []
	for vector in vectors:
		for axis in range(2 if vector is Vector2 else 3):
			found.append(vector[axis])
	return found
