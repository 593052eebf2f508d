// The Python module: settings and presets, dense attention, sequences that grow, the cascade's report.

#include <torch/csrc/utils/pybind.h>

#include <cascada/presets.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sequences.hpp"

namespace torch_cascada {
namespace {

namespace py = pybind11;

settings of_preset(const std::string& name) {
  const auto found = [](const cascada::preset& preset) {
    return settings{features::residual, preset.selection, preset.attention};
  };
  if (name == "dense") return {};
  if (name == "accurate") return found(cascada::presets::accurate);
  if (name == "balanced") return found(cascada::presets::balanced);
  if (name == "fast") return found(cascada::presets::fast);
  refuse("there is no preset " + name + "; there are dense, accurate, balanced and fast");
}

/// The refusal that options get, before a call would get it.
void require_valid(const settings& how) {
  require_ok(check(how.attention));
  require_ok(cascada::detail::check(cascada::matrix_view<const float>{}, how.selection));
}

template <class Scalar>
void bind(py::module_& module, const char* type) {
  using unlocked     = py::call_guard<py::gil_scoped_release>;
  auto       of_type = module.def_submodule(type);
  const auto terms   = [](double scale, std::optional<double> softcap, std::optional<int> sliding_window) {
    return layer_terms{scale, softcap, sliding_window};
  };
  of_type.def(
      "attend_densely",
      [terms](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const std::vector<std::int64_t>& padding,
              double scale, std::optional<double> softcap, std::optional<int> sliding_window) {
        return attend_densely<Scalar>(q, k, v, padding, terms(scale, softcap, sliding_window));
      },
      py::arg("q"), py::arg("k"), py::arg("v"), py::arg("padding"), py::arg("scale"), py::arg("softcap"),
      py::arg("sliding_window"), unlocked());
  using states = sequences<Scalar>;
  py::class_<states>(of_type, "Sequences")
      .def(py::init<const settings&>())
      .def(
          "attend",
          [terms](states& own, std::int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                  const std::optional<at::Tensor>& residual, const std::vector<std::int64_t>& padding, double scale,
                  std::optional<double> softcap) {
            return own.attend(layer, q, k, v, residual, padding, terms(scale, softcap, std::nullopt));
          },
          py::arg("layer"), py::arg("q"), py::arg("k"), py::arg("v"), py::arg("residual"), py::arg("padding"),
          py::arg("scale"), py::arg("softcap"), unlocked())
      .def("drop_last", &states::drop_last)
      .def("__deepcopy__", [](const states& own, const py::dict&) { return states(own); })
      .def_property_readonly("bytes", &states::bytes)
      .def_property_readonly("costs", [](const states& own) {
        const costs& sums = own.sums();
        return py::dict(py::arg("read") = sums.read, py::arg("dense") = sums.dense, py::arg("mass") = sums.mass,
                        py::arg("far_rows") = sums.far_rows);
      });
}

/// A cascade through the layers of one sequence: step(x) takes the rows [tokens, width] that enter the next.
class layers_walk {
 public:
  layers_walk(float threshold, bool paper)
      : walk_({.threshold = threshold,
               .validate  = paper ? cascada::validation::cross_gram : cascada::validation::exact}) {}

  py::dict step(const at::Tensor& rows) {
    require(rows.dim() == 2, "x is not [tokens, width]");
    const at::Tensor x = rows.to(at::kFloat).contiguous();
    require_ok(walk_.step({x.data_ptr<float>(), to_index(x.size(0)), to_index(x.size(1)), x.size(1)}));
    const cascada::selection_report& report = walk_.report();
    const auto                       set    = walk_.kept().indices;
    return py::dict(py::arg("kept") = std::vector<index_t>(set.begin(), set.end()), py::arg("tokens") = report.tokens,
                    py::arg("representatives") = report.representatives, py::arg("additions") = report.additions,
                    py::arg("removals") = report.removals, py::arg("jaccard") = report.jaccard,
                    py::arg("savings")                 = report.savings(),
                    py::arg("savings_cross_gram_only") = report.savings_cross_gram_only());
  }

 private:
  cascada::cascade<float, backend> walk_;
};

}  // namespace
}  // namespace torch_cascada

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using namespace torch_cascada;
  py::enum_<features>(module, "Features").value("residual", features::residual).value("keys", features::keys);
  py::class_<settings>(module, "Settings")
      .def(py::init(&of_preset), py::arg("preset"))
      .def("check", &require_valid)
      .def("__deepcopy__", [](const settings& own, const py::dict&) { return settings(own); })
      .def_property_readonly("selects", &settings::selects)
      .def_readwrite("features", &settings::rows)
#define CASCADA_SETTING(part, name)                             \
  .def_property(                                                \
      #name, [](const settings& own) { return own.part.name; }, \
      [](settings& own, decltype(own.part.name) value) { own.part.name = value; })
      // clang-format off
      CASCADA_SETTING(selection, threshold)
      CASCADA_SETTING(attention, window)
      CASCADA_SETTING(attention, chunk)
      CASCADA_SETTING(attention, sink_tokens)
      CASCADA_SETTING(attention, leaf)
      CASCADA_SETTING(attention, leaf_threshold)
      CASCADA_SETTING(attention, moments)
      CASCADA_SETTING(attention, open_above)
      CASCADA_SETTING(attention, tile);
  // clang-format on
#undef CASCADA_SETTING
  bind<float>(module, "float32");
  bind<cascada::bfloat16>(module, "bfloat16");
  bind<cascada::float16>(module, "float16");
  py::class_<layers_walk>(module, "Cascade")
      .def(py::init<float, bool>(), py::arg("threshold"), py::arg("paper") = false)
      .def("step", &layers_walk::step);
}
